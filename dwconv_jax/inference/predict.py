"""Predictions of a trained model for the pictures in a folder."""

import logging
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.inference.trained import TrainedModel, load_trained
from dwconv_jax.tasks.task import Prediction

_log = logging.getLogger("dwconv_jax")

_SUFFIXES = (".jpg", ".jpeg", ".png")


def predict(
    workdir: str,
    images: str,
    out: str,
    checkpoint: str = "latest",
    config: ConfigDict | None = None,
) -> None:
    """Writes predictions for every JPEG and PNG file of a folder; see `Task.write_predictions`.

    Args:
      workdir: of the run that trained the model.
      images: folder of pictures of any sizes.
      out: folder to write to; created, and files of the same names are replaced.
      checkpoint: "latest" or "best".
      config: of the run, to override operational fields; by default the one in the workdir.

    Raises:
      UserError: if a file is not a picture, or with several processes.
      FileNotFoundError: if the folder has no pictures, or the workdir no checkpoint.
    """
    if jax.process_count() > 1:
        raise UserError(f"--mode=predict runs in one process, not in {jax.process_count()}")
    paths = _pictures(epath.Path(images))
    trained = load_trained(workdir, checkpoint, config)
    folder = epath.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    trained.task.write_predictions(_predictions(trained, paths), folder)
    _log.info(f"predicted {len(paths)} pictures of {images} into {out}")


def _predictions(trained: TrainedModel, paths: list[epath.Path]) -> Iterator[Prediction]:
    graph, state = nnx.split(trained.model)

    @jax.jit
    def step(state: nnx.State, batch: dict[str, jax.Array]) -> jax.Array | dict[str, jax.Array]:
        return trained.task.predict(nnx.merge(graph, state), batch)

    for path in paths:
        batch = trained.task.read_picture(path)
        outputs = step(state, batch)
        yield Prediction(path, batch, jax.tree.map(lambda x: np.asarray(x[0]), outputs))


def _pictures(folder: epath.Path) -> list[epath.Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"--images={folder}: there is no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise FileNotFoundError(
            f"--images={folder} has no pictures; legal file names end in {', '.join(_SUFFIXES)}"
        )
    return paths

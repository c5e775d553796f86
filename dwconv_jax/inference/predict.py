"""What a trained model says of the pictures in a folder."""

from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.tasks.task import Prediction
from dwconv_jax.training import loop
from dwconv_jax.training.logs import log
from dwconv_jax.training.step import make_eval_step

_FORMATS = (".jpg", ".jpeg", ".png")


def predict(config: ConfigDict, workdir: str, images: str, out: str, checkpoint: str) -> None:
    """Writes predictions for every JPEG and PNG file of a folder; see the task for what they are.

    Args:
      config: of the run that trained the model.
      workdir: of that run.
      images: the folder of pictures, of any sizes.
      out: the folder to write to; created, and files of the same names are replaced.
      checkpoint: "latest" or "best".

    Raises:
      ValueError: for a file that is no picture, naming it, or several processes.
      FileNotFoundError: for a folder without pictures, or a workdir without a checkpoint.
    """
    if jax.process_count() > 1:
        raise UserError(f"--mode=predict runs in one process, not in {jax.process_count()}")
    paths = _pictures(epath.Path(images))
    run = loop.prepare(config, workdir)
    step = jax.jit(make_eval_step(run.task, run.model))
    with jax.set_mesh(run.mesh):
        state = loop.load_state(run, checkpoint)

        def predictions() -> Iterator[Prediction]:
            for path in paths:
                batch = run.task.picture(path)
                _, outputs = step(state, batch)
                yield Prediction(path, batch, jax.tree.map(lambda x: np.asarray(x[0]), outputs))

        folder = epath.Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        run.task.write_predictions(predictions(), folder)
    log.info(f"predicted {len(paths)} pictures of {images} into {out}")


def _pictures(folder: epath.Path) -> list[epath.Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"--images={folder}: there is no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _FORMATS)
    if not paths:
        raise FileNotFoundError(
            f"--images={folder} has no pictures; legal file names end in {', '.join(_FORMATS)}"
        )
    return paths

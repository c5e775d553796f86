"""Predictions of a trained model for the pictures in a folder."""

import itertools
import logging
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.data.image.content import SUFFIXES
from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path
from dwconv_jax.inference.trained import TrainedModel, load_trained
from dwconv_jax.tasks.pictures import output_names
from dwconv_jax.tasks.task import Prediction

_log = logging.getLogger("dwconv_jax")


def predict(
    workdir: str,
    images: str,
    out: str,
    checkpoint: str = "latest",
    config: ConfigDict | None = None,
) -> None:
    """Writes predictions for every picture in a folder; see `Task.write_predictions`.

    Files that cannot be read are named in warnings and left out.

    Args:
      workdir: of the run that trained the model.
      images: folder of pictures of any sizes; pictures in its subfolders are included, except for
        those in `out`.
      out: folder to write to; created, and files of the same names are replaced.
      checkpoint: "latest" or "best".
      config: of the run, to override operational fields; by default the one in the workdir.

    Raises:
      UserError: if `out` is `images`, or with several processes; or, after the predictions of all
        others have been written, if files could not be read.
      FileNotFoundError: if the folder has no pictures, or the workdir no checkpoint.
    """
    if jax.process_count() > 1:
        raise UserError(f"--mode=predict runs in one process, not in {jax.process_count()}")
    source, folder = absolute_path(images, "--images"), absolute_path(out, "--out")
    names = _pictures(source, folder)
    trained = load_trained(workdir, checkpoint, config)
    unreadable: list[UserError] = []
    predictions = _predictions(trained, source, names, unreadable)
    first = next(predictions, None)
    if first is not None:
        folder.mkdir(parents=True, exist_ok=True)
        trained.task.write_predictions(itertools.chain([first], predictions), folder)
        count = len(names) - len(unreadable)
        _log.info(f"predicted {count} pictures of {source} into {folder}")
    if unreadable:
        raise UserError(
            f"{len(unreadable)} of {len(names)} pictures could not be read: {unreadable[0]}"
        )


def _predictions(
    trained: TrainedModel, folder: epath.Path, names: list[str], unreadable: list[UserError]
) -> Iterator[Prediction]:
    """Predicts the pictures of a folder; adds the errors of those that cannot be read to a list."""
    for name, output_name in zip(names, output_names(names), strict=True):
        path = folder / name
        try:
            batch = trained.task.read_picture(path)
        except UserError as error:
            _log.warning(f"leaving out a picture: {error}")
            unreadable.append(error)
            continue
        outputs = trained.predict(batch)
        output = jax.tree.map(lambda x: np.asarray(x[0]), outputs)
        yield Prediction(name, output_name, path, batch, output)


def _pictures(folder: epath.Path, out: epath.Path) -> list[str]:
    """Returns the names of pictures below a folder, sorted, without those below `out`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"--images={folder}: there is no such folder")
    folder, out = folder.resolve(), out.resolve()
    if folder == out:
        raise UserError(
            f"--out={out} must not be the folder of --images, whose pictures it would mix with or "
            "replace"
        )
    files = (base / name for base, _, names in folder.walk() for name in names)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in files
        if path.suffix.lower() in SUFFIXES and out not in path.parents
    )
    if not names:
        raise FileNotFoundError(
            f"--images={folder} has no pictures; legal file names end in {', '.join(SUFFIXES)}"
        )
    return names

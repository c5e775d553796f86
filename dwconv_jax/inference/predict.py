"""Predictions of a trained model for the pictures, or point clouds, in a folder."""

import itertools
import logging
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path
from dwconv_jax.inference.trained import TrainedModel, load_trained
from dwconv_jax.tasks.pictures import output_names
from dwconv_jax.tasks.task import Prediction, Task

_log = logging.getLogger("dwconv_jax")


def predict(
    workdir: str,
    images: str,
    out: str,
    checkpoint: str = "latest",
    config: ConfigDict | None = None,
) -> None:
    """Writes predictions for every input in a folder; see `Task.write_predictions`.

    Files that cannot be read are named in warnings and left out.

    Args:
      workdir: of the run that trained the model.
      images: folder of pictures of any sizes, or of point clouds for a model of these; files in its
        subfolders are included, except for those in `out`.
      out: folder to write to; created, and files of the same names are replaced.
      checkpoint: "latest" or "best".
      config: of the run, to override operational fields; by default the one in the workdir.

    Raises:
      UserError: if `out` is `images`, or with several processes; or, after the predictions of all
        others have been written, if files could not be read.
      FileNotFoundError: if the folder has no inputs, or the workdir no checkpoint.
    """
    if jax.process_count() > 1:
        raise UserError(f"prediction runs in one process, found {jax.process_count()}")
    source, folder = absolute_path(images, "--images"), absolute_path(out, "--out")
    _check_folders(source, folder)
    trained = load_trained(workdir, checkpoint, config)
    kind, names = trained.task.input_kind, _inputs(source, folder, trained.task)
    unreadable: list[UserError] = []
    predictions = _predictions(trained, source, names, unreadable)
    first = next(predictions, None)
    if first is not None:
        folder.mkdir(parents=True, exist_ok=True)
        trained.task.write_predictions(itertools.chain([first], predictions), folder)
        count = len(names) - len(unreadable)
        _log.info(f"predicted {count} {kind}s of {source} into {folder}")
    if unreadable:
        raise UserError(
            f"{len(unreadable)} of {len(names)} {kind}s could not be read: {unreadable[0]}"
        )


def _predictions(
    trained: TrainedModel, folder: epath.Path, names: list[str], unreadable: list[UserError]
) -> Iterator[Prediction]:
    """Predicts the inputs in a folder; adds the errors of those that cannot be read to a list."""
    for name, output_name in zip(names, output_names(names), strict=True):
        path = folder / name
        try:
            batch = trained.task.read_picture(path)
        except UserError as error:
            _log.warning(f"leaving out a {trained.task.input_kind}: {error}")
            unreadable.append(error)
            continue
        outputs = trained.predict(batch)
        output = jax.tree.map(lambda x: np.asarray(x[0]), outputs)
        yield Prediction(name, output_name, path, batch, output)


def _check_folders(folder: epath.Path, out: epath.Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"--images={folder}: there is no such folder")
    if folder.resolve() == out.resolve():
        raise UserError(
            f"--out={out} must not be the folder of --images, whose files it would mix with or "
            "replace"
        )


def _inputs(folder: epath.Path, out: epath.Path, task: Task) -> list[str]:
    """Returns the names of the inputs below a folder, sorted, without those below `out`."""
    folder, out = folder.resolve(), out.resolve()
    files = (base / name for base, _, names in folder.walk() for name in names)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in files
        if path.suffix.lower() in task.suffixes and out not in path.parents
    )
    if not names:
        raise FileNotFoundError(
            f"--images={folder} has no {task.input_kind}s; legal file names end in "
            f"{', '.join(task.suffixes)}"
        )
    return names

"""Finds intact checkpoints in the `checkpoints` folder of a run."""

import logging
import re

from etils import epath

from dwconv_jax.convert.checksums import find_damage

_log = logging.getLogger("dwconv_jax")

# Not `str.isdigit`, which is true of "²".
_STEP = re.compile(r"[0-9]+")


class CheckpointError(OSError):
    """A checkpoint that could not be written or read."""


def finished_checkpoints(folder: epath.Path) -> list[epath.Path]:
    """Returns the finished checkpoints of a folder, newest first.

    Raises:
      CheckpointError: if something else has the name of a checkpoint.
    """
    paths = folder.iterdir() if folder.exists() else ()
    finished = [path for path in paths if _STEP.fullmatch(path.name)]
    for path in finished:
        if not path.is_dir():
            raise CheckpointError(
                f"{path} is a file, but only a checkpoint may have that name: move it away"
            )
    return sorted(finished, key=lambda path: int(path.name), reverse=True)


def find_damaged(folder: epath.Path) -> set[int]:
    """Finds damaged checkpoints, each with a warning.

    Reads all files of the checkpoints up to the newest intact one, and the metrics of the others.

    Returns:
      Their steps.

    Raises:
      CheckpointError: if there are checkpoints but none is intact.
    """
    damages, intact = {}, False
    for path in finished_checkpoints(folder):
        # Orbax reads the metrics of all checkpoints, but usually only the newest state is read.
        damage = find_damage(path, part="metrics/" if intact else "")
        if damage is None:
            intact = True
        else:
            damages[path] = damage
    if damages and not intact:
        found = "; ".join(f"{path.name}: {damage}" for path, damage in damages.items())
        raise CheckpointError(
            f"no checkpoint in {folder} is intact ({found}); to start anew, use another workdir"
        )
    for path, damage in damages.items():
        _log.warning(f"skipping the damaged checkpoint {path}: {damage}")
    return {int(path.name) for path in damages}


def newest_intact(folder: epath.Path) -> epath.Path:
    """Returns the newest intact checkpoint of a folder; damaged ones are skipped with a warning.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      CheckpointError: if none is intact.
    """
    damaged = find_damaged(folder)
    for path in finished_checkpoints(folder):
        if int(path.name) not in damaged:
            return path
    raise FileNotFoundError(f"{folder} holds no finished checkpoint")


def first_reason(error: BaseException, handled: BaseException | None = None) -> str:
    """Returns the first line of the error that started a chain: Orbax wraps some in others.

    Args:
      error: the last of the chain.
      handled: an earlier error, during whose handling the chain started.
    """
    while (earlier := error.__cause__ or error.__context__) and earlier is not handled:
        error = earlier
    return str(error).strip().split("\n")[0]

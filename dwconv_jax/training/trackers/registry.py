"""Finds trackers by name, and opens them."""

import importlib
from collections.abc import Callable, Sequence

from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.training.trackers.tracker import Tracker

OpenTracker = Callable[[epath.Path, ConfigDict], Tracker]
_CLASSES = {"mlflow": "MlflowTracker", "trackio": "TrackioTracker", "wandb": "WandbTracker"}


def find_trackers(names: Sequence[str]) -> list[OpenTracker]:
    """Imports trackers; called with a workdir and the config of its run, they start or resume.

    Args:
      names: of `TRACKERS`.

    Raises:
      UserError: if a package is missing; it names the extra.
    """
    return [_find(name) for name in names]


def _find(name: str) -> OpenTracker:
    try:
        module = importlib.import_module(f"dwconv_jax.training.trackers.{name}")
    except ImportError as error:
        raise UserError(
            f"config.writers has {name!r}, which needs the extra of that name: "
            f"pip install 'dwconv-jax[{name}]' ({error})"
        ) from error
    return getattr(module, _CLASSES[name])

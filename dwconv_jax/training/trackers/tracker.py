"""What trackers share: clu's interface, and the id by which a resumed run finds its record."""

import abc
import json
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from clu import metric_writers
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.files import read_json, write_atomically

PROJECT = "dwconv-jax"  # where the environment names none
_IDS = "trackers.json"


class Tracker(metric_writers.MetricWriter):
    """A writer of scalars, pictures and texts; training writes nothing else."""

    @abc.abstractmethod
    def __init__(self, workdir: epath.Path, config: ConfigDict):
        """Starts the record of a run, or continues it.

        Args:
          workdir: of the run, whose name the record has.
          config: of the run, which the record shows.
        """

    @abc.abstractmethod
    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture, uint8 `[H, W, 3]`."""

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Writes pictures, uint8 `[1, H, W, 3]` each."""
        for name, image in images.items():
            self.write_image(step, name, np.asarray(image)[0])

    def flush(self) -> None:
        """Does nothing: trackers send what they have by themselves."""

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Does nothing: the record starts with the config."""

    def write_summaries(self, step: int, values: Any, metadata: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError

    def write_videos(self, step: int, videos: Any) -> None:
        """Not supported."""
        raise NotImplementedError

    def write_audios(self, step: int, audios: Any, *, sample_rate: int) -> None:
        """Not supported."""
        raise NotImplementedError

    def write_histograms(self, step: int, arrays: Any, num_buckets: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError


def new_id() -> str:
    """Draws an id for a record."""
    return uuid.uuid4().hex[:8]


def read_id(workdir: epath.Path, tracker: str) -> str | None:
    """Reads the id of a run's record; None before it has one."""
    return _read_ids(workdir).get(tracker)


def write_id(workdir: epath.Path, tracker: str, record: str) -> None:
    """Keeps the id of a run's record in `trackers.json`."""
    ids = _read_ids(workdir) | {tracker: record}
    write_atomically(workdir / _IDS, json.dumps(ids, indent=2) + "\n")


def _read_ids(workdir: epath.Path) -> dict[str, str]:
    path = workdir / _IDS
    return read_json(path, "delete it to start new records") if path.exists() else {}

"""trackio. The environment (`TRACKIO_DIR`, `TRACKIO_PROJECT`, ...) says where to."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import trackio
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.training.trackers.tracker import PROJECT, Tracker, new_id, read_id, write_id


class TrackioTracker(Tracker):
    """Writes to a run of trackio, which its name identifies."""

    def __init__(self, workdir: epath.Path, config: ConfigDict):
        """See the base class."""
        record = read_id(workdir, "trackio") or f"{workdir.name}-{new_id()}"
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=record,
            resume="allow",
            config=config.to_dict(),
            embed=False,
        )
        write_id(workdir, "trackio", record)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """See the base class."""
        self._run.log({name: float(value) for name, value in scalars.items()}, step=step)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """See the base class."""
        self._run.log({name: trackio.Image(image)}, step=step)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes Markdown, which may hold HTML."""
        self._run.log({name: trackio.Markdown(text) for name, text in texts.items()}, step=step)

    def close(self) -> None:
        """See the base class."""
        self._run.finish()

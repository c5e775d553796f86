"""Weights & Biases. The environment (`WANDB_PROJECT`, `WANDB_MODE`, ...) says where to."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import wandb
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.training.trackers.tracker import PROJECT, Tracker, new_id, read_id, write_id

_STEP = "step"


class WandbTracker(Tracker):
    """Writes to a run of Weights & Biases."""

    def __init__(self, workdir: epath.Path, config: ConfigDict):
        """See the base class."""
        record = read_id(workdir, "wandb") or new_id()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=workdir.name,
            id=record,
            resume="allow",
            dir=os.fspath(workdir),
            config=config.to_dict(),
        )
        # An axis of our own: wandb's drops what a resumed run writes again.
        self._run.define_metric("*", step_metric=_STEP)
        write_id(workdir, "wandb", record)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """See the base class."""
        self._run.log({_STEP: step, **{name: float(value) for name, value in scalars.items()}})

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """See the base class."""
        self._run.log({_STEP: step, name: wandb.Image(image)})

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes HTML."""
        self._run.log({_STEP: step, **{name: wandb.Html(text) for name, text in texts.items()}})

    def close(self) -> None:
        """See the base class."""
        self._run.finish()

"""Where metrics go: TensorBoard and `metrics.jsonl`, by the first process only."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from clu import metric_writers
from etils import epath

_JSONL = "metrics.jsonl"


class MetricLog:
    """Writes scalars of a step to TensorBoard and as one JSON line."""

    def __init__(self, workdir: epath.Path, first_step: int):
        """Opens the logs; JSON lines past `first_step`, of a run that was killed, are dropped."""
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._path = workdir / _JSONL
        kept = [entry for entry in read_jsonl(workdir) if entry["step"] <= first_step]
        self._path.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        self._tensorboard = metric_writers.SummaryWriter(str(workdir))

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of a split ("train" or "eval") at a step."""
        if not self._active:
            return
        self._tensorboard.write_scalars(step, {f"{split}/{k}": v for k, v in scalars.items()})
        self._tensorboard.flush()
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "split": split, **scalars}) + "\n")

    def write_pictures(self, step: int, name: str, pictures: Sequence[np.ndarray]) -> None:
        """Writes pictures, uint8 `[H, W, 3]` of any sizes, to TensorBoard."""
        if self._active and pictures:
            images = {f"{name}/{i}": picture[None] for i, picture in enumerate(pictures)}
            self._tensorboard.write_images(step, images)
            self._tensorboard.flush()

    def close(self) -> None:
        """Closes the TensorBoard file."""
        if self._active:
            self._tensorboard.close()


def read_jsonl(workdir: epath.Path) -> list[dict[str, Any]]:
    """The entries of a run's `metrics.jsonl`; a line that a kill cut short is left out."""
    path = workdir / _JSONL
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]

"""Writes metrics to TensorBoard and `metrics.jsonl`, from the first process only."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from clu import metric_writers
from etils import epath

_JSONL = "metrics.jsonl"


class MetricLog:
    """Writes the scalars of a step to TensorBoard and as one JSON line."""

    def __init__(self, workdir: epath.Path, first_step: int):
        """Opens the logs, and drops JSON lines after `first_step` that a killed run left."""
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

    def write_text(self, step: int, name: str, text: str) -> None:
        """Writes text, in Markdown, to TensorBoard."""
        if self._active:
            self._tensorboard.write_texts(step, {name: text})
            self._tensorboard.flush()

    def close(self) -> None:
        """Closes the TensorBoard file."""
        if self._active:
            self._tensorboard.close()


def read_jsonl(workdir: epath.Path) -> list[dict[str, Any]]:
    """Reads the entries of a run's `metrics.jsonl`, except a line that a kill cut short."""
    path = workdir / _JSONL
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]

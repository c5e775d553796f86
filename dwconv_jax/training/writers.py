"""Writes metrics to TensorBoard, `metrics.jsonl` and trackers, from the first process only."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
import tensorflow as tf
from clu import metric_writers
from etils import epath

from dwconv_jax.data.unreadable import reason
from dwconv_jax.files import write_atomically
from dwconv_jax.training.jsonl import JSONL, read_jsonl


class MetricLog:
    """Writes the scalars of a step to TensorBoard, trackers and as one JSON line.

    Raises:
      OSError: if a file cannot be written, for example on a full disk.
    """

    def __init__(
        self,
        workdir: epath.Path,
        first_step: int,
        trackers: Sequence[Callable[[], metric_writers.MetricWriter]] = (),
    ):
        """Opens the logs, and drops JSON lines after `first_step` that a killed run left.

        Args:
          workdir: of the run.
          first_step: that the run starts or resumes from.
          trackers: open the writers to use besides; only the first process calls them.
        """
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._workdir = workdir
        self._path = workdir / JSONL
        kept = [entry for entry in read_jsonl(workdir) if entry["step"] <= first_step]
        write_atomically(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))
        with self._naming_what_failed():
            tensorboard = metric_writers.SummaryWriter(str(workdir))
        self._writer = metric_writers.MultiWriter([tensorboard, *(open_() for open_ in trackers)])

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of a split ("train" or "eval") at a step."""
        if not self._active:
            return
        with self._naming_what_failed():
            self._writer.write_scalars(step, {f"{split}/{k}": v for k, v in scalars.items()})
            self._writer.flush()
        try:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, "split": split, **scalars}) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def write_pictures(self, step: int, name: str, pictures: Sequence[np.ndarray]) -> None:
        """Writes pictures, uint8 `[H, W, 3]` of any sizes, to TensorBoard and trackers."""
        if self._active and pictures:
            images = {f"{name}/{i}": picture[None] for i, picture in enumerate(pictures)}
            with self._naming_what_failed():
                self._writer.write_images(step, images)
                self._writer.flush()

    def write_text(self, step: int, name: str, text: str) -> None:
        """Writes text, in Markdown or HTML, to TensorBoard and trackers."""
        if self._active:
            with self._naming_what_failed():
                self._writer.write_texts(step, {name: text})
                self._writer.flush()

    def close(self) -> None:
        """Closes the TensorBoard file and the trackers."""
        if self._active:
            with self._naming_what_failed():
                self._writer.close()

    @contextlib.contextmanager
    def _naming_what_failed(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(
                f"cannot write the TensorBoard file of {self._workdir}: {reason(error)}"
            ) from error

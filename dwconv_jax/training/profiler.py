"""Profiler traces of a few steps, for TensorBoard: `config.profile_steps`."""

from collections.abc import Sequence
from types import TracebackType

import jax
from etils import epath

from dwconv_jax.training.logs import log


class Profiler:
    """Traces the steps `first` to `last`; a context manager that ends an unfinished trace.

    TensorBoard finds the trace in `workdir/plugins/profile`.

    Args:
      workdir: of the run.
      steps: `(first, last)`, both included, or empty for no trace.
    """

    def __init__(self, workdir: epath.Path, steps: Sequence[int]):
        self._workdir = workdir
        self._steps = range(steps[0], steps[1] + 1) if steps else range(0)
        self._tracing = False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def before(self, step: int) -> None:
        """Starts the trace if this step is the first to trace."""
        if step in self._steps and not self._tracing and jax.process_index() == 0:
            jax.profiler.start_trace(str(self._workdir))
            self._tracing = True

    def after(self, step: int, outputs: object) -> None:
        """Ends the trace after the last step to trace, once its `outputs` are there."""
        if self._tracing and step + 1 not in self._steps:
            jax.block_until_ready(outputs)
            self._stop()
            log.info(f"wrote a trace of steps up to {step} to {self._workdir}/plugins/profile")

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

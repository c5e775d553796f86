"""Exact evaluation over a whole evaluation split."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dwconv_jax.data.dataset import Batch
from dwconv_jax.training.description import write_evaluation
from dwconv_jax.training.mesh import batch_sharding
from dwconv_jax.training.prefetch import prefetch
from dwconv_jax.training.run import NonFiniteError, Run
from dwconv_jax.training.state import TrainState
from dwconv_jax.training.step import make_eval_step

# Predictions of an evaluation that TensorBoard shows.
_NUM_PICTURES = 4


class Evaluator:
    """Evaluates states of a run; compiles once for each shape of a batch.

    The workdir gets what the newest evaluation says of each class, `evaluation.json`.
    """

    def __init__(self, run: Run):
        self._run = run
        self._step = jax.jit(
            make_eval_step(run.task, run.model), out_shardings=(None, batch_sharding(run.mesh))
        )

    def __call__(
        self, state: TrainState, stopped: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, float], list[np.ndarray]] | None:
        """Evaluates a state.

        Args:
          state: of the run.
          stopped: is asked before every batch whether to give up.

        Returns:
          Metrics over the whole split, and pictures of a few predictions; None if stopped.

        Raises:
          NonFiniteError: if a metric is not finite.
        """
        total, pictures = None, []
        for batch, on_devices in prefetch(self._run.task.eval_batches(), self._run.mesh):
            if stopped():
                return None
            metrics, predictions = self._step(state, on_devices)
            if total is None:
                total, pictures = metrics, self._draw(batch, predictions)
            else:
                total = total.merge(metrics)
        assert total is not None, "an evaluation split has at least one batch"
        summary, step = self._run.task.summarize(total), int(state.step)
        values = summary.metrics
        if not np.isfinite(list(values.values())).all():
            raise NonFiniteError(f"evaluation at step {step} is not finite: {values}")
        if jax.process_index() == 0:
            write_evaluation(self._run.workdir, step, summary)
        return values, pictures

    def _draw(self, batch: Batch, predictions: Any) -> list[np.ndarray]:
        own = multihost_utils.global_array_to_host_local_array(
            predictions, self._run.mesh, batch_sharding(self._run.mesh).spec
        )
        count = min(_NUM_PICTURES, int(batch["mask"].sum()))
        few = jax.tree.map(lambda array: np.asarray(array)[:count], (batch, own))
        return self._run.task.draw(*few)

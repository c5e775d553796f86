"""Ends a run whose evaluations no longer improve: `config.early_stop_patience`."""

import math

from dwconv_jax.training.jsonl import read_jsonl
from dwconv_jax.training.run import Run


class EarlyStop:
    """Counts the evaluations since the best one.

    Args:
      run: to end.
      first_step: where it starts or resumes; earlier evaluations are those in `metrics.jsonl`.
    """

    def __init__(self, run: Run, first_step: int):
        self._patience, self._metric = run.config.early_stop_patience, run.task.best_metric
        self._best, self._best_step, self._stale = -math.inf, 0, 0
        for entry in read_jsonl(run.workdir):
            if entry["split"] == "eval" and entry["step"] <= first_step:
                self.observe(entry["step"], entry)

    def observe(self, step: int, metrics: dict[str, float]) -> None:
        """Takes note of the evaluation at a step; only a higher metric is an improvement."""
        if metrics[self._metric] > self._best:
            self._best, self._best_step, self._stale = metrics[self._metric], step, 0
        else:
            self._stale += 1

    @property
    def reached(self) -> bool:
        """Whether to end the run."""
        return self._patience is not None and self._stale >= self._patience

    def __str__(self) -> str:
        """Says why the run ends."""
        return (
            f"no {self._metric} above the {self._best:.4g} of step {self._best_step} in "
            f"{self._stale} evaluations"
        )

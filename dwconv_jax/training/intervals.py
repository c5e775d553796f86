"""How often a run logs, evaluates and saves."""

import dataclasses
from typing import Self

from ml_collections import ConfigDict

from dwconv_jax.training.config import total_steps
from dwconv_jax.training.logs import log


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Steps between logs, between evaluations and between checkpoints; all end at the last step."""

    num_steps: int
    log: int
    eval: int
    checkpoint: int

    @classmethod
    def of(cls, config: ConfigDict, steps_per_epoch: int) -> Self:
        """Reads the intervals of a config and says in the log which ones exceed the run."""
        num_steps = total_steps(config, steps_per_epoch)
        intervals = {}
        for name in ("log", "eval", "checkpoint"):
            field, unit = f"{name}_every_epochs", steps_per_epoch
            if config[field] is None:
                field, unit = f"{name}_every_steps", 1
            if (steps := config[field] * unit) > num_steps:
                log.info(
                    f"config.{field}={config[field]} exceeds the run of {num_steps} steps and "
                    "stands for its last step"
                )
            intervals[name] = max(1, round(min(steps, num_steps)))
        return cls(num_steps, **intervals)

    def logs(self, step: int) -> bool:
        """Whether to log after a step."""
        return self._is_due(step, self.log)

    def evaluates(self, step: int) -> bool:
        """Whether to evaluate after a step."""
        return self._is_due(step, self.eval)

    def saves(self, step: int) -> bool:
        """Whether to save after a step: after every evaluation, too."""
        return self._is_due(step, self.checkpoint) or self.evaluates(step)

    def _is_due(self, step: int, interval: int) -> bool:
        return step == self.num_steps or step % interval == 0

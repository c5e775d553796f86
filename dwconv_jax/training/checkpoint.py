"""Checkpoints of a run: the newest few and the best, by Orbax."""

from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from dwconv_jax.training.state import TrainState

_DIRECTORY = "checkpoints"


class Checkpoints:
    """The checkpoints of a workdir; a context manager that closes what it opens."""

    def __init__(self, workdir: epath.Path, *, keep: int, best_metric: str):
        self._best_metric = best_metric
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[best_metric],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self._checkpointer = ocp.training.Checkpointer(
            workdir / _DIRECTORY,
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None without one."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the highest metric, None without one."""
        rated = [c for c in self._checkpointer.checkpoints if c.metrics]
        return max(rated, key=lambda c: c.metrics[self._best_metric]).step if rated else None

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Saves the state under its step, with evaluation metrics where there are any."""
        step = int(state.step)
        if step != self.latest_step:
            self._checkpointer.save(step, state, metrics=dict(metrics) if metrics else None)

    def restore(self, step: int, abstract_state: TrainState) -> TrainState:
        """Loads a checkpoint into the shapes and shardings of `abstract_state`."""
        return self._checkpointer.load(step, abstract_state)


def has_checkpoint(workdir: epath.Path) -> bool:
    """Whether a run has saved anything there."""
    directory = workdir / _DIRECTORY
    return directory.exists() and any(p.name.isdigit() for p in directory.iterdir())


def abstract(state: Any, shardings: Any) -> Any:
    """Shapes, dtypes and shardings of a state, for `Checkpoints.restore`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        shardings,
    )

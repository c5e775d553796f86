"""Checkpoints of a run, written with Orbax: the newest ones and the best."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from dwconv_jax.convert.checksums import find_damage, write_checksums
from dwconv_jax.convert.intact import (
    CheckpointError,
    find_damaged,
    finished_checkpoints,
    first_reason,
)
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training.state import TrainState

_DIRECTORY = "checkpoints"
_DAMAGED, _REPLACED = "damaged_", "replaced_"  # prefixes of what has been set aside


class Checkpoints:
    """The checkpoints of a workdir; a context manager that waits for pending saves.

    Damaged checkpoints are skipped with a warning; the one before is used instead.

    Args:
      workdir: of the run.
      keep: the number of newest checkpoints to keep; the best one is kept too.
      best_metric: the metric that decides which one is the best.
      read_only: changes no files, so that a run may continue in the workdir. Otherwise damaged
        checkpoints are renamed and leftovers of interrupted saves removed.

    Raises:
      CheckpointError: if all checkpoints are damaged.
    """

    def __init__(
        self, workdir: epath.Path, *, keep: int, best_metric: str, read_only: bool = False
    ):
        self._directory = workdir / _DIRECTORY
        self._best_metric = best_metric
        self._saving: int | None = None
        if not read_only:
            _settle_replacements(self._directory)
        self._damaged = find_damaged(self._directory)
        if self._damaged and not read_only:
            _set_aside(self._directory, self._damaged, _DAMAGED)
            self._damaged = set()
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[best_metric],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        context = ocp.Context()
        # A lambda, because Orbax copies a context with all objects in it, but not functions.
        context.asynchronous.post_finalization_callback = lambda: self._complete()
        # Devices that hold copies of an array share the work of saving it. For small arrays that
        # costs more than it saves: a program for each shape, while training waits.
        context.array_options.saving.min_slice_bytes_for_replica_parallel = 2**20
        try:
            self._checkpointer = ocp.training.Checkpointer(
                self._directory,
                context=context,
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                cleanup_tmp_directories=not read_only,
            )
        except ValueError as error:  # metrics that are not JSON, which could not be set aside
            raise CheckpointError(f"cannot read {self._directory}: {error}") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._naming_what_failed():
            self._checkpointer.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest intact checkpoint, or None."""
        return max((checkpoint.step for checkpoint in self._intact()), default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the intact checkpoint with the highest metric, or None."""
        rated = [checkpoint for checkpoint in self._intact() if checkpoint.metrics]
        return max(rated, key=lambda c: c.metrics[self._best_metric]).step if rated else None

    @property
    def latest_in_words(self) -> str:
        """Says what a failed run has left to continue from."""
        if self.latest_step is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is that of step {self.latest_step}"

    def is_evaluated(self, step: int) -> bool:
        """Whether there is an intact checkpoint of a step that was saved with metrics."""
        return any(checkpoint.step == step and checkpoint.metrics for checkpoint in self._intact())

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Saves the state under its step, with evaluation metrics if given.

        Returns as soon as the state may change; the files are written in the background. Replaces
        a checkpoint of the same step only to add metrics to it, once the new one is written.

        Raises:
          CheckpointError: if this or the previous save failed; earlier checkpoints stay intact.
        """
        step = int(state.step)
        exists = step == self.latest_step
        if exists and (not metrics or self.is_evaluated(step)):
            return
        self.wait()
        with (
            self._naming_what_failed(),
            self._replacing(step) if exists else contextlib.nullcontext(),
        ):
            self._saving = step
            self._checkpointer.save_async(
                step, state, force=True, metrics=dict(metrics) if metrics else None
            )

    def wait(self) -> None:
        """Waits until pending saves are written; raises as `save` does."""
        with self._naming_what_failed():
            self._checkpointer.wait()

    def find(self, name: str) -> int:
        """Returns the step of the "latest" or "best" checkpoint.

        Raises:
          FileNotFoundError: if there is none.
          UserError: for another name.
        """
        check_choice("checkpoint", name, ("latest", "best"))
        step = self.best_step if name == "best" else self.latest_step
        if step is None:
            reason = "none has been evaluated yet" if name == "best" else "train there first"
            raise FileNotFoundError(f"{self._directory.parent} has no {name} checkpoint: {reason}")
        return step

    def intact_path(self, step: int) -> epath.Path:
        """Returns the directory of a checkpoint after comparing its checksums.

        Raises:
          CheckpointError: if it is damaged.
        """
        path = self._directory / str(step)
        # Those of the newest one are compared when the directory is opened.
        if step != self.latest_step and (damage := find_damage(path)):
            raise CheckpointError(f"{path} is damaged: {damage}")
        return path

    def restore(self, step: int, abstract_state: TrainState) -> TrainState:
        """Loads a checkpoint into the shapes and shardings of `abstract_state`.

        Raises:
          CheckpointError: if it is damaged, or holds another state.
        """
        path = self.intact_path(step)
        try:
            return self._checkpointer.load(step, abstract_state)
        except Exception as error:  # Orbax raises almost anything.
            raise CheckpointError(
                f"{path} does not hold the state of a run of this config: {first_reason(error)}"
            ) from error

    def _intact(self) -> list[Any]:
        checkpoints = self._checkpointer.checkpoints
        return [checkpoint for checkpoint in checkpoints if checkpoint.step not in self._damaged]

    def _complete(self) -> None:
        """Runs in the background of the first process, before a checkpoint gets its name."""
        unfinished = self._directory.glob(f"{self._saving}.*")
        write_checksums(next(iter(unfinished), self._directory / str(self._saving)))

    @contextlib.contextmanager
    def _replacing(self, step: int) -> Iterator[None]:
        """Keeps a checkpoint under another name until the one that replaces it is written."""
        _set_aside(self._directory, {step}, _REPLACED)
        try:
            self._checkpointer.reload()
            yield
            self._checkpointer.wait()
        finally:
            _settle_replacements(self._directory)
            self._checkpointer.reload()

    @contextlib.contextmanager
    def _naming_what_failed(self) -> Iterator[None]:
        handled = sys.exception()  # such as what ended the run that closes its checkpoints
        try:
            yield
        except Exception as error:  # Orbax raises almost anything.
            raise CheckpointError(
                f"could not save step {self._saving} in {self._directory}: "
                f"{first_reason(error, handled)}; {self.latest_in_words}"
            ) from error


def has_checkpoint(workdir: epath.Path) -> bool:
    """Whether a workdir has checkpoints."""
    return bool(finished_checkpoints(workdir / _DIRECTORY))


def find_checkpoint(workdir: epath.Path, name: str, *, best_metric: str) -> epath.Path:
    """Returns the directory of the "latest" or "best" intact checkpoint, changing no files.

    Raises:
      FileNotFoundError: if there is none.
      CheckpointError: if it is damaged, and there is no intact one before it.
    """
    if not has_checkpoint(workdir):
        raise FileNotFoundError(f"{workdir} has no checkpoint: train there first")
    with Checkpoints(workdir, keep=1, best_metric=best_metric, read_only=True) as checkpoints:
        return checkpoints.intact_path(checkpoints.find(name))


def abstract(state: Any, shardings: Any) -> Any:
    """Returns shapes, dtypes and shardings of a state, for `Checkpoints.restore`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        shardings,
    )


def _set_aside(directory: epath.Path, steps: set[int], prefix: str) -> None:
    """Renames checkpoints."""

    def rename() -> None:
        for step in steps:
            aside = directory / f"{prefix}{step}"
            aside.rmtree(missing_ok=True)
            (directory / str(step)).rename(aside)

    _in_first_process(rename)


def _settle_replacements(directory: epath.Path) -> None:
    """Removes checkpoints that have been replaced, and puts back those that have not."""

    def settle() -> None:
        for aside in directory.glob(f"{_REPLACED}*"):
            path = directory / aside.name.removeprefix(_REPLACED)
            aside.rmtree() if path.exists() else aside.rename(path)

    _in_first_process(settle)


def _in_first_process(change: Callable[[], None]) -> None:
    """Changes files that all processes read, none of them before or meanwhile."""
    multihost_utils.sync_global_devices("before files change")
    if jax.process_index() == 0:
        change()
    multihost_utils.sync_global_devices("after files have changed")

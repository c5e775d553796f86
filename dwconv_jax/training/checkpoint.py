"""Checkpoints of a run, written with Orbax: the newest ones and the best."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from dwconv_jax.training.checksums import find_damage, write_checksums
from dwconv_jax.training.logs import log
from dwconv_jax.training.state import TrainState

_DIRECTORY = "checkpoints"
_SET_ASIDE = "damaged_"


class CheckpointError(OSError):
    """A checkpoint that could not be written or read."""


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
        self._damaged = _find_damaged(self._directory)
        if self._damaged and not read_only:
            _set_aside(self._directory, self._damaged)
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

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Saves the state under its step, with evaluation metrics if given.

        Returns as soon as the state may change; the files are written in the background.

        Raises:
          CheckpointError: if this or the previous save failed; earlier checkpoints stay intact.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        self.wait()
        with self._naming_what_failed():
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
        """
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
                f"{path} does not hold the state of a run of this config: {_reason(error)}"
            ) from error

    def _intact(self) -> list[Any]:
        checkpoints = self._checkpointer.checkpoints
        return [checkpoint for checkpoint in checkpoints if checkpoint.step not in self._damaged]

    def _complete(self) -> None:
        """Runs in the background of the first process, before a checkpoint gets its name."""
        unfinished = self._directory.glob(f"{self._saving}.*")
        write_checksums(next(iter(unfinished), self._directory / str(self._saving)))

    @contextlib.contextmanager
    def _naming_what_failed(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax raises almost anything.
            raise CheckpointError(
                f"could not save step {self._saving} in {self._directory}: {_reason(error)}; "
                f"the last checkpoint is that of step {self.latest_step}"
            ) from error


def has_checkpoint(workdir: epath.Path) -> bool:
    """Whether a workdir has checkpoints."""
    return bool(_checkpoints_in(workdir / _DIRECTORY))


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


def _checkpoints_in(directory: epath.Path) -> list[epath.Path]:
    """Returns finished checkpoints, newest first."""
    paths = directory.iterdir() if directory.exists() else ()
    finished = [path for path in paths if path.name.isdigit()]
    return sorted(finished, key=lambda path: int(path.name), reverse=True)


def _find_damaged(directory: epath.Path) -> set[int]:
    """Returns the steps of damaged checkpoints; reads all files of those up to the first intact."""
    damages, intact = {}, False
    for path in _checkpoints_in(directory):
        # Orbax reads the metrics of all checkpoints, but usually only the newest state is read.
        damage = find_damage(path, part="metrics/" if intact else "")
        if damage is None:
            intact = True
        else:
            damages[path] = damage
    if damages and not intact:
        found = "; ".join(f"{path.name}: {damage}" for path, damage in damages.items())
        raise CheckpointError(
            f"no checkpoint in {directory} is intact ({found}); to start anew, use another workdir"
        )
    for path, damage in damages.items():
        log.warning(f"skipping the damaged checkpoint {path}: {damage}")
    return {int(path.name) for path in damages}


def _set_aside(directory: epath.Path, steps: set[int]) -> None:
    """Renames damaged checkpoints once all processes have found them."""
    multihost_utils.sync_global_devices("damaged checkpoints are found")
    if jax.process_index() == 0:
        for step in steps:
            aside = directory / f"{_SET_ASIDE}{step}"
            aside.rmtree(missing_ok=True)
            (directory / str(step)).rename(aside)
    multihost_utils.sync_global_devices("damaged checkpoints are set aside")
    steps.clear()


def _reason(error: BaseException) -> str:
    """Returns the first line of the error that started a chain."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error).strip().split("\n")[0]

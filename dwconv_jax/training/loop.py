"""The one training loop: every task, one device or many processes."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dwconv_jax.data.dataset import Batch
from dwconv_jax.errors import UserError
from dwconv_jax.tasks import create_task
from dwconv_jax.training.checkpoint import Checkpoints, abstract, has_checkpoint
from dwconv_jax.training.config import differences, total_steps, validate
from dwconv_jax.training.initialize import load_initial_weights
from dwconv_jax.training.logs import log
from dwconv_jax.training.mesh import batch_sharding, make_mesh, state_sharding, to_devices
from dwconv_jax.training.optimizer import make_optimizer
from dwconv_jax.training.preemption import Preempted, PreemptionWatch
from dwconv_jax.training.progress import Stopwatch, duration
from dwconv_jax.training.schedules import learning_rate_schedule
from dwconv_jax.training.state import ModelDef, TrainState, initial_state
from dwconv_jax.training.step import make_eval_step, make_train_step
from dwconv_jax.training.writers import MetricLog

# How many predictions of an evaluation TensorBoard shows.
_NUM_PICTURES = 4


class NonFiniteError(RuntimeError):
    """A loss, metric or gradient norm that is not a finite number."""


@dataclasses.dataclass
class Run:
    """Everything that training and evaluation share, built and checked before any compilation."""

    config: ConfigDict
    workdir: epath.Path
    task: Any
    mesh: Mesh
    model: ModelDef
    optimizer: Any
    schedule: Any
    shardings: TrainState
    abstract_state: TrainState

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return total_steps(self.config, self.task.steps_per_epoch)

    def checkpoints(self, *, read_only: bool = False) -> Checkpoints:
        """The checkpoints of the workdir."""
        return Checkpoints(
            self.workdir,
            keep=self.config.keep_checkpoints,
            best_metric=self.task.best_metric,
            read_only=read_only,
        )

    def train_step(self) -> Any:
        """The jitted step; it reuses the memory of the state that it is given."""
        step = make_train_step(
            self.task,
            self.model,
            self.optimizer,
            self.schedule,
            seed=self.config.seed,
            accumulation_steps=self.config.accumulation_steps,
            ema_decay=self.config.ema_decay,
        )
        return jax.jit(step, donate_argnums=0, out_shardings=(self.shardings, None))

    def initial_state(self, *, strict: bool = False) -> TrainState:
        """The state at step 0, on the mesh; from `config.init_from` where it is given.

        Args:
          strict: refuses weights with another head or other windows, rather than adapting them.
        """
        if self.config.init_from is None:
            # The key is an argument, so that runs of every seed share one program.
            key = jax.random.key(self.config.seed)
            return jax.jit(self._random_state, out_shardings=self.shardings)(key)
        model = self.task.create_model(nnx.Rngs(self.config.seed))
        load_initial_weights(model, self.config.init_from, strict=strict)
        return jax.device_put(_state_of(self.config, model, self.optimizer), self.shardings)

    def model_of(self, state: TrainState) -> Any:
        """The model with the weights to evaluate of a state, by itself on the default device."""
        weights = jax.device_get(state.inference_weights)
        return self.model.merge(*jax.tree.map(jnp.asarray, weights))

    def _random_state(self, key: jax.Array) -> TrainState:
        return _state_of(self.config, self.task.create_model(nnx.Rngs(key)), self.optimizer)


def prepare(config: ConfigDict, workdir: str) -> Run:
    """Checks a config, opens its data and describes its model, compiling nothing.

    Raises:
      ValueError: for a config, data or workdir that cannot be, naming what to change.
      FileNotFoundError: for data or weights that are not there.
    """
    validate(config)
    path = epath.Path(workdir).absolute()
    _check_workdir(config, path)
    if config.init_from is not None and not epath.Path(config.init_from).exists():
        raise FileNotFoundError(f"config.init_from={config.init_from!r} does not exist")
    return assemble(config, path, make_mesh(config.mesh))


def assemble(
    config: ConfigDict, workdir: epath.Path, mesh: Mesh, *, described: bool = False
) -> Run:
    """Describes the model and the optimiser of a run, and where their arrays live.

    Args:
      config: a valid one.
      workdir: where the run would live.
      mesh: devices, which need not be there.
      described: does without the data; see `create_task`.

    Raises:
      ValueError: for a config or data that cannot be, naming what to change.
      FileNotFoundError: for data that are not there.
    """
    for field in ("batch_size", "eval_batch_size"):
        micro_batches = config.accumulation_steps if field == "batch_size" else 1
        if config[field] % (mesh.size * micro_batches):
            raise UserError(
                f"config.{field}={config[field]} must be a multiple of the {mesh.size} devices"
                + (f" times accumulation_steps={micro_batches}" if micro_batches > 1 else "")
            )
    task = create_task(config, described=described)
    schedule = learning_rate_schedule(config, task.steps_per_epoch)
    model = nnx.eval_shape(lambda: task.create_model(nnx.Rngs(config.seed)))
    optimizer = make_optimizer(config, schedule, model)
    graph, arrays = nnx.split(model)
    state = jax.eval_shape(
        lambda arrays: _state_of(config, nnx.merge(graph, arrays), optimizer), arrays
    )
    shardings = state_sharding(mesh, state)
    return Run(
        config,
        workdir,
        task,
        mesh,
        ModelDef(model),
        optimizer,
        schedule,
        shardings,
        abstract(state, shardings),
    )


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
    """Trains to the end, from the newest intact checkpoint where there is one.

    Returns:
      The metrics of the last evaluation.

    Raises:
      ValueError: for a config, data or workdir that cannot be, naming what to change.
      FileNotFoundError: for data or weights that are not there.
      NonFiniteError: after more bad batches than `config.max_skipped_steps`.
      CheckpointError: if no checkpoint of the workdir is intact, or one cannot be saved.
      Preempted: after a SIGTERM, with the state saved at the step that it has reached.
    """
    run = prepare(config, workdir)
    if jax.process_index() == 0:
        run.workdir.mkdir(parents=True, exist_ok=True)
        (run.workdir / "config.json").write_text(config.to_json_best_effort(indent=2) + "\n")
    with jax.set_mesh(run.mesh), run.checkpoints() as checkpoints:
        first_step = checkpoints.latest_step or 0
        if checkpoints.latest_step is None:
            state = run.initial_state()
        else:
            state = checkpoints.restore(first_step, run.abstract_state)
        if first_step >= run.num_steps:
            log.info(f"{run.workdir} holds a finished run of {run.num_steps} steps: evaluating it")
            return _report(_evaluate(run, state))
        _announce(run, first_step)
        metric_log = MetricLog(run.workdir, first_step)
        try:
            metrics = _train_loop(run, state, first_step, checkpoints, metric_log)
        finally:
            metric_log.close()
        return metrics


def evaluate(config: ConfigDict, workdir: str, checkpoint: str = "latest") -> dict[str, float]:
    """Evaluates the state that `load_state` finds.

    Raises:
      FileNotFoundError: if there is none.
    """
    run = prepare(config, workdir)
    with jax.set_mesh(run.mesh):
        return _report(_evaluate(run, load_state(run, checkpoint)))


def load_state(run: Run, checkpoint: str) -> TrainState:
    """The "latest" or "best" checkpoint of the workdir, or `config.init_from` where it has none.

    Raises:
      FileNotFoundError: if the workdir has no checkpoint and the config no weights to start from.
      CheckpointError: if none is intact, or the best one is damaged.
    """
    if not has_checkpoint(run.workdir):
        if run.config.init_from is None:
            raise FileNotFoundError(
                f"{run.workdir} has no checkpoint: train there first, or name weights with "
                "config.init_from"
            )
        log.info(f"using {run.config.init_from}")
        return run.initial_state(strict=True)
    with run.checkpoints(read_only=True) as checkpoints:
        step = checkpoints.best_step if checkpoint == "best" else checkpoints.latest_step
        if step is None:
            raise FileNotFoundError(
                f"{run.workdir} has no {checkpoint} checkpoint: none has been evaluated yet"
            )
        log.info(f"using the {checkpoint} checkpoint of {run.workdir}, step {step}")
        return checkpoints.restore(step, run.abstract_state)


def _train_loop(
    run: Run, state: TrainState, first_step: int, checkpoints: Checkpoints, metric_log: MetricLog
) -> dict[str, float]:
    config, num_steps = run.config, run.num_steps
    train_step = run.train_step()
    evaluator = Evaluator(run)
    stopwatch, pending = Stopwatch(), []
    eval_metrics: dict[str, float] = {}
    batches = run.task.train_batches(first_step)
    first = next(batches)
    metric_log.write_pictures(first_step, "training", [run.task.draw_training(first)])
    batches = itertools.chain([first], batches)
    with PreemptionWatch() as watch:
        for step in range(first_step + 1, num_steps + 1):
            state, metrics = train_step(state, to_devices(next(batches), run.mesh))
            pending.append(metrics)
            preempted = watch.reached(step)
            evaluates = step == num_steps or step % config.eval_every_steps == 0
            saves = evaluates or preempted or step % config.checkpoint_every_steps == 0
            if saves or step % config.log_every_steps == 0:
                history, pending = jax.device_get(pending), []
                _check_finite(run, step, history, int(state.skipped_steps), checkpoints)
                _log_training(run, step, history, stopwatch.lap(), metric_log)
            with stopwatch.pause():
                if evaluates:
                    eval_metrics, pictures = evaluator(state)
                    metric_log.write(step, "eval", eval_metrics)
                    metric_log.write_pictures(step, "predictions", pictures)
                    log.info(f"step {step}/{num_steps}  evaluation: {_format(eval_metrics)}")
                if saves:
                    checkpoints.save(state, eval_metrics if evaluates else None)
            if preempted and step < num_steps:
                checkpoints.wait()
                log.info(f"stopped at step {step}: run the same command again to continue")
                raise Preempted
    log.info(
        f"done: {num_steps} steps in {duration(stopwatch.total)}, final {_format(eval_metrics)}, "
        f"best checkpoint at step {checkpoints.best_step}"
    )
    return eval_metrics


def _check_finite(
    run: Run,
    step: int,
    history: Sequence[Mapping[str, np.ndarray]],
    skipped: int,
    checkpoints: Checkpoints,
) -> None:
    """Names the steps that were skipped, up to `step`; stops the run if there are too many."""
    most = run.config.max_skipped_steps
    for i, metrics in enumerate(history, start=step - len(history) + 1):
        if _is_finite(metrics):
            continue
        bad = {name: float(value) for name, value in metrics.items() if not np.isfinite(value)}
        if skipped > most:
            raise NonFiniteError(
                f"step {i} is not finite: {bad}; of such steps there are {skipped}, and "
                f"config.max_skipped_steps={most}; the last good checkpoint is step "
                f"{checkpoints.latest_step} of {run.workdir}"
            )
        log.warning(f"step {i} is not finite and was skipped: {bad}; {skipped} of at most {most}")


def _log_training(
    run: Run,
    step: int,
    history: Sequence[Mapping[str, np.ndarray]],
    seconds: float,
    metric_log: MetricLog,
) -> None:
    """Writes the means since the last log, over the steps that were not skipped."""
    finite = [metrics for metrics in history if _is_finite(metrics)]
    names = finite[0] if finite else ()
    means = {name: float(np.mean([m[name] for m in finite])) for name in names}
    means["images_per_second"] = run.config.batch_size * len(history) / seconds
    if run.config.max_skipped_steps:
        means["skipped_steps"] = float(len(history) - len(finite))
    metric_log.write(step, "train", means)
    left = (run.num_steps - step) * seconds / len(history)
    epoch = step / run.task.steps_per_epoch
    log.info(
        f"step {step}/{run.num_steps}  epoch {epoch:.1f}  {_format(means)}  {duration(left)} left"
    )


def _is_finite(metrics: Mapping[str, np.ndarray]) -> bool:
    return bool(np.isfinite(list(metrics.values())).all())


class Evaluator:
    """Exact evaluation over the whole evaluation split; compiles once for each shape."""

    def __init__(self, run: Run):
        self._run = run
        self._step = jax.jit(
            make_eval_step(run.task, run.model), out_shardings=(None, batch_sharding(run.mesh))
        )

    def __call__(self, state: TrainState) -> tuple[dict[str, float], list[np.ndarray]]:
        """Metrics of a state over the whole split, and pictures of a few predictions."""
        batches = self._run.task.eval_batches()
        first = next(batches)
        total, predictions = self._step(state, to_devices(first, self._run.mesh))
        pictures = self._draw(first, predictions)
        for batch in batches:
            metrics, _ = self._step(state, to_devices(batch, self._run.mesh))
            total = total.merge(metrics)
        values = {name: float(value) for name, value in total.compute().items()}
        if not np.isfinite(list(values.values())).all():
            raise NonFiniteError(f"evaluation at step {int(state.step)} is not finite: {values}")
        return values, pictures

    def _draw(self, batch: Batch, predictions: Any) -> list[np.ndarray]:
        own = multihost_utils.global_array_to_host_local_array(
            predictions, self._run.mesh, batch_sharding(self._run.mesh).spec
        )
        count = min(_NUM_PICTURES, int(batch["mask"].sum()))
        few = jax.tree.map(lambda array: np.asarray(array)[:count], (batch, own))
        return self._run.task.draw(*few)


def _evaluate(run: Run, state: TrainState) -> dict[str, float]:
    metrics, _ = Evaluator(run)(state)
    return metrics


def _state_of(
    config: ConfigDict, model: nnx.Module, optimizer: optax.GradientTransformation
) -> TrainState:
    return initial_state(model, optimizer, averages=config.ema_decay is not None)


def _check_workdir(config: ConfigDict, workdir: epath.Path) -> None:
    """A workdir with checkpoints belongs to the config that made them."""
    path = workdir / "config.json"
    if not has_checkpoint(workdir) or not path.exists():
        return
    old = json.loads(path.read_text())
    changed = differences(old, json.loads(config.to_json_best_effort()))
    if changed:
        raise UserError(
            f"{workdir} holds checkpoints of another config; use another workdir, or the same "
            "config:\n  " + "\n  ".join(changed)
        )


def _announce(run: Run, first_step: int) -> None:
    params = sum(math.prod(p.shape) for p in jax.tree.leaves(run.abstract_state.params))
    log.info(
        f"{run.config.model.name}, {params:,} parameters, on {run.mesh.size} "
        f"{jax.devices()[0].device_kind} device(s); {run.task.num_train:,} training examples, "
        f"{run.num_steps} steps of {run.config.batch_size}"
    )
    if first_step:
        log.info(f"resuming {run.workdir} from step {first_step}")


def _report(metrics: dict[str, float]) -> dict[str, float]:
    log.info(f"evaluation: {_format(metrics)}")
    return metrics


def _format(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:,.4g}" for name, value in metrics.items())

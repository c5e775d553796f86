"""The one training loop: every task, one device or many processes."""

import functools
import itertools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from dwconv_jax import ops
from dwconv_jax.training.checkpoint import Checkpoints
from dwconv_jax.training.description import write_description
from dwconv_jax.training.device_memory import peak_device_memory_gib
from dwconv_jax.training.early_stop import EarlyStop
from dwconv_jax.training.evaluator import Evaluator
from dwconv_jax.training.lock import workdir_lock
from dwconv_jax.training.logs import log
from dwconv_jax.training.preemption import Preempted, PreemptionWatch
from dwconv_jax.training.prefetch import prefetch
from dwconv_jax.training.profiler import Profiler
from dwconv_jax.training.progress import ProgressBar, Stopwatch, duration
from dwconv_jax.training.run import NonFiniteError, Run, prepare
from dwconv_jax.training.state import TrainState, partition
from dwconv_jax.training.trackers.registry import find_trackers
from dwconv_jax.training.writers import MetricLog


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
    """Trains to the end, from the newest intact checkpoint of the workdir if it has one.

    Returns:
      The metrics of the last evaluation.

    Raises:
      UserError: if the config, the data or the workdir cannot be used; it names what to change.
      FileNotFoundError: if data or weights are missing.
      NonFiniteError: after more than `config.max_skipped_steps` non-finite steps.
      CheckpointError: if no checkpoint of the workdir is intact, or one cannot be saved.
      Preempted: after a SIGTERM or SIGINT; the state of the current step is saved.
    """
    run = prepare(config, workdir)
    trackers = find_trackers(run.config.writers)
    _name_missing_kernel()
    with (
        workdir_lock(run.workdir),
        jax.set_mesh(run.mesh),
        run.checkpoints() as checkpoints,
    ):
        first_step = checkpoints.latest_step or 0
        if checkpoints.latest_step is None:
            state = run.initial_state()
        else:
            state = checkpoints.restore(first_step, run.abstract_state)
        # Only now: a start that fails must not change the description of another run.
        if jax.process_index() == 0:
            write_description(run.workdir, config, run.task.description)
        early_stop = EarlyStop(run, first_step)
        finished = first_step >= run.num_steps or early_stop.reached
        if finished and not _owes_evaluation(run, first_step, checkpoints):
            log.info(f"{run.workdir} holds a finished run of {first_step} steps: evaluating it")
            return _evaluate(run, state)
        metric_log = MetricLog(
            run.workdir,
            first_step,
            [functools.partial(tracker, run.workdir, config) for tracker in trackers],
        )
        try:
            _announce(run, first_step, metric_log)
            return _train_loop(run, state, first_step, checkpoints, metric_log, early_stop)
        finally:
            metric_log.close()


def evaluate(
    config: ConfigDict | None, workdir: str, checkpoint: str = "latest"
) -> dict[str, float]:
    """Evaluates a checkpoint and returns its metrics.

    Args:
      config: of the run; None for the one in the workdir.
      workdir: of the run.
      checkpoint: "latest" or "best". A workdir without checkpoints gives `config.init_from`.

    Raises:
      UserError: if the config, the data or the workdir cannot be used; it names what to change.
      FileNotFoundError: if data or the checkpoint are missing.
    """
    run = prepare(config, workdir)
    with jax.set_mesh(run.mesh):
        return _evaluate(run, run.restore_state(checkpoint))


def _evaluate(run: Run, state: TrainState) -> dict[str, float]:
    results = Evaluator(run)(state)
    assert results is not None, "nothing stops this evaluation"
    metrics, _ = results
    log.info(f"evaluation: {_format(metrics)}")
    return metrics


def _train_loop(
    run: Run,
    state: TrainState,
    first_step: int,
    checkpoints: Checkpoints,
    metric_log: MetricLog,
    early_stop: EarlyStop,
) -> dict[str, float]:
    num_steps, intervals = run.num_steps, run.intervals
    train_step, evaluator = run.train_step(), Evaluator(run)
    eval_metrics: dict[str, float] | None = None
    pending: list[Mapping[str, jax.Array]] = []
    batches = itertools.islice(run.task.train_batches(first_step), num_steps - first_step)
    prefetched = prefetch(batches, run.mesh)
    with (
        PreemptionWatch() as watch,
        Profiler(run.workdir, run.config.profile_steps) as profiler,
        ProgressBar(num_steps, first_step, run.config.batch_size) as bar,
    ):
        if _owes_evaluation(run, first_step, checkpoints):
            eval_metrics = _evaluate_step(run, evaluator, state, first_step, watch, metric_log)
            if eval_metrics is None:
                raise _stopped(watch, first_step, checkpoints)
            checkpoints.save(state, eval_metrics)
            early_stop.observe(first_step, eval_metrics)
        stopwatch = Stopwatch()
        for step, (batch, on_devices) in enumerate(prefetched, start=first_step + 1):
            if early_stop.reached:
                log.info(f"stopping early after step {step - 1}: {early_stop}")
                break
            if step == first_step + 1:
                pictures = [run.task.draw_training(batch)]
                metric_log.write_pictures(first_step, "training", pictures)
            profiler.before(step)
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, on_devices)
            profiler.after(step, metrics)
            bar.update(step)
            pending.append(metrics)
            stopping = watch.reached()
            if stopping or intervals.saves(step) or intervals.logs(step):
                history, pending = jax.device_get(pending), []
                _check_finite(run, step, history, int(state.skipped_steps), checkpoints)
                _log_training(run, step, history, stopwatch.lap(), metric_log)
            with stopwatch.pause():
                eval_metrics = None
                if intervals.evaluates(step) and not stopping:
                    eval_metrics = _evaluate_step(run, evaluator, state, step, watch, metric_log)
                    stopping = eval_metrics is None
                if eval_metrics is not None:
                    early_stop.observe(step, eval_metrics)
                if stopping or intervals.saves(step):
                    checkpoints.save(state, eval_metrics)
            if stopping:
                raise _stopped(watch, step, checkpoints)
    assert eval_metrics is not None, "the last step is evaluated"
    log.info(
        f"done: {int(state.step)} steps in {duration(stopwatch.total)}, "
        f"final {_format(eval_metrics)}, best checkpoint at step {checkpoints.best_step}"
    )
    return eval_metrics


def _owes_evaluation(run: Run, step: int, checkpoints: Checkpoints) -> bool:
    """Whether the run was told to stop before it had evaluated a step that it has saved."""
    saved = 0 < step <= run.num_steps
    return saved and run.intervals.evaluates(step) and not checkpoints.is_evaluated(step)


def _evaluate_step(
    run: Run,
    evaluator: Evaluator,
    state: TrainState,
    step: int,
    watch: PreemptionWatch,
    metric_log: MetricLog,
) -> dict[str, float] | None:
    """Evaluates a state and writes the result; None if the run is told to stop meanwhile."""
    results = evaluator(state, watch.reached)
    if results is None:
        return None
    metrics, pictures = results
    metric_log.write(step, "eval", metrics)
    metric_log.write_pictures(step, "predictions", pictures)
    log.info(f"step {step}/{run.num_steps}  evaluation: {_format(metrics)}")
    return metrics


def _stopped(watch: PreemptionWatch, step: int, checkpoints: Checkpoints) -> Preempted:
    """Waits until the state is saved, and returns the exception that ends the process."""
    checkpoints.wait()
    log.info(f"stopped at step {step}: run the same command again to continue")
    return watch.stop()


def _name_missing_kernel() -> None:
    lowerings = ops.describe_lowerings()
    if lowerings["platform"] == "cpu" and not lowerings["cpu_kernel"]:
        log.info(
            "the compiled CPU kernel is not built: `pip install -e .` in the checkout builds it"
        )


def _announce(run: Run, first_step: int, metric_log: MetricLog) -> None:
    """Says what is about to run: model, devices, data, and every parameter with its shape."""
    paths = jax.tree_util.tree_leaves_with_path(run.abstract_state.params)
    params = {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in paths}
    overview = parameter_overview.get_parameter_overview(params, include_stats=False)
    log.info(f"parameters:\n{overview}")
    metric_log.write_text(first_step, "parameters", f"<pre>{overview}</pre>")
    trained, _ = partition(run.abstract_state.params, run.model.trained)
    log.info(
        f"{run.config.model.name}, {parameter_overview.count_parameters(params):,} parameters, of "
        f"which {parameter_overview.count_parameters(trained):,} are trained, on "
        f"{run.mesh.size} {jax.devices()[0].device_kind} device(s); {run.task.num_train:,} "
        f"training examples, {run.num_steps} steps of {run.config.batch_size}"
    )
    if first_step:
        log.info(f"resuming {run.workdir} from step {first_step}")


def _check_finite(
    run: Run,
    step: int,
    history: Sequence[Mapping[str, np.ndarray]],
    skipped: int,
    checkpoints: Checkpoints,
) -> None:
    """Names the steps up to `step` that were skipped; stops the run if there are too many."""
    most = run.config.max_skipped_steps
    for i, metrics in enumerate(history, start=step - len(history) + 1):
        if _is_finite(metrics):
            continue
        bad = {name: float(value) for name, value in metrics.items() if not np.isfinite(value)}
        if skipped > most:
            raise NonFiniteError(
                f"step {i} is not finite: {bad}; {skipped} non-finite steps, "
                f"config.max_skipped_steps={most}; in {run.workdir} "
                f"{checkpoints.latest_in_words}"
            )
        log.warning(f"step {i} is not finite and was skipped: {bad}; {skipped} of at most {most}")


def _log_training(
    run: Run,
    step: int,
    history: Sequence[Mapping[str, np.ndarray]],
    seconds: float,
    metric_log: MetricLog,
) -> None:
    """Writes means over the steps since the last log that were not skipped."""
    finite = [metrics for metrics in history if _is_finite(metrics)]
    names = finite[0] if finite else ()
    means = {name: float(np.mean([m[name] for m in finite])) for name in names}
    means["images_per_second"] = run.config.batch_size * len(history) / seconds
    if (memory := peak_device_memory_gib()) is not None:
        means["peak_device_memory_gib"] = memory
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


def _format(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:,.4g}" for name, value in metrics.items())

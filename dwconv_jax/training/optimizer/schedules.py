"""Learning rates at each 0-based step: timm's, mmcv's, and the schedule that a config describes."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dwconv_jax.training.config import total_steps, warmup_steps

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def warmup_cosine(
    peak: float, warmup: float, minimum: float, warmup_steps: int, total_steps: int
) -> Schedule:
    """timm's cosine schedule with warm-up, as the authors train classifiers.

    Linear from `warmup` to `peak`, then a cosine to `minimum` that starts counting at step 0, so
    that the rate drops a little where warm-up ends. From `total_steps` on it is `minimum`.
    """

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rising = warmup + step * ((peak - warmup) / max(warmup_steps, 1))
        phase = jnp.minimum(step / total_steps, 1)
        falling = minimum + (peak - minimum) * 0.5 * (1 + jnp.cos(jnp.pi * phase))
        return jnp.where(step < warmup_steps, rising, falling)

    return schedule


def linear_decay(peak: float, minimum: float, total_steps: int) -> Schedule:
    """From `peak` to `minimum` in a line, mmcv's "poly" of power 1.

    `optax.polynomial_schedule` subtracts shares of one in float32, which is off by 1e-3 at the end.
    """

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        left = jnp.maximum(total_steps - jnp.asarray(step, jnp.float32), 0) / total_steps
        return minimum + (peak - minimum) * left

    return schedule


def step_decay(peak: float, decay_steps: Sequence[int]) -> Schedule:
    """Divides the rate by ten at each of `decay_steps`."""
    return optax.piecewise_constant_schedule(peak, dict.fromkeys(decay_steps, 0.1))


def with_warmup(schedule: Schedule, warmup_steps: int, warmup_ratio: float) -> Schedule:
    """Multiplies a schedule by a line from `warmup_ratio` at step 0 to 1 (mmcv's "linear")."""

    def warmed_up(step: jax.typing.ArrayLike) -> jax.Array:
        done = jnp.minimum(jnp.asarray(step, jnp.float32) / max(warmup_steps, 1), 1)
        return schedule(step) * (warmup_ratio + (1 - warmup_ratio) * done)

    return warmed_up


def learning_rate_schedule(config: ConfigDict, steps_per_epoch: int) -> Schedule:
    """The learning rate of a run at each 0-based step.

    The authors' code for classification steps its scheduler after the optimizer: step `n` uses the
    value of update `n - 1`, and steps 0 and 1 both use that of 0.

    Args:
      config: of the run.
      steps_per_epoch: whole training batches in an epoch.
    """
    optimizer = config.optimizer
    reference = optimizer.reference_batch_size
    scale = 1.0 if reference is None else config.batch_size / reference
    peak = scale * optimizer.learning_rate
    warmup = scale * optimizer.warmup_learning_rate
    minimum = scale * optimizer.min_learning_rate
    rising = warmup_steps(config, steps_per_epoch)
    num_steps = total_steps(config, steps_per_epoch)
    if optimizer.schedule == "poly":
        return with_warmup(linear_decay(peak, minimum, num_steps), rising, warmup / peak)
    if optimizer.schedule == "step":
        decay_steps = [epoch * steps_per_epoch for epoch in optimizer.decay_epochs]
        return with_warmup(step_decay(peak, decay_steps), rising, warmup / peak)
    cosine = warmup_cosine(peak, warmup, minimum, rising, num_steps)
    return lambda step: cosine(jnp.maximum(jnp.asarray(step) - 1, 0))

"""AdamW as the authors train: schedules with warm-up, clipping, what is decayed."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.training.config import total_steps
from dwconv_jax.training.schedules import Schedule, decayed_except_norms, poly, steps, with_warmup


def warmup_cosine(
    peak: float, warmup: float, minimum: float, warmup_steps: int, total_steps: int
) -> Schedule:
    """The reference's learning rate at an update number (timm's cosine scheduler).

    Linear from `warmup` to `peak`, then a cosine to `minimum` that starts counting at step 0: where
    warm-up ends the rate drops a little. From `total_steps` on it is the minimum.
    """

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rising = warmup + step * ((peak - warmup) / max(warmup_steps, 1))
        phase = jnp.minimum(step / total_steps, 1)
        falling = minimum + (peak - minimum) * 0.5 * (1 + jnp.cos(jnp.pi * phase))
        return jnp.where(step < warmup_steps, rising, falling)

    return schedule


def learning_rate_schedule(config: ConfigDict, steps_per_epoch: int) -> Schedule:
    """The rate in force at each 0-based step of a run.

    The reference for classification steps its scheduler after the optimiser, so that step `n` uses
    the value of update `n - 1`, and steps 0 and 1 both that of 0.
    """
    optimizer = config.optimizer
    reference = optimizer.reference_batch_size
    scale = 1.0 if reference is None else config.batch_size / reference
    peak, warmup, minimum = (
        rate * scale
        for rate in (
            optimizer.learning_rate,
            optimizer.warmup_learning_rate,
            optimizer.min_learning_rate,
        )
    )
    warmup_steps = round(optimizer.warmup_epochs * steps_per_epoch)
    num_steps = total_steps(config, steps_per_epoch)
    if optimizer.schedule == "poly":
        return with_warmup(poly(peak, num_steps, minimum=minimum), warmup_steps, warmup / peak)
    if optimizer.schedule == "step":
        decay_steps = [epoch * steps_per_epoch for epoch in optimizer.decay_epochs]
        return with_warmup(steps(peak, decay_steps), warmup_steps, warmup / peak)
    schedule = warmup_cosine(peak, warmup, minimum, warmup_steps, num_steps)
    return lambda step: schedule(jnp.maximum(jnp.asarray(step) - 1, 0))


def decayed(params: Any) -> Any:
    """Which parameters weight decay shrinks: kernels, not biases, norms or position tables."""

    def is_kernel(path: tuple[Any, ...], _: Any) -> bool:
        return jax.tree_util.keystr(path[-1:], simple=True) == "kernel"

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def make_optimizer(
    config: ConfigDict, schedule: Schedule, model: nnx.Module
) -> optax.GradientTransformation:
    """Gradient clipping by the global norm, then AdamW with decoupled weight decay."""
    optimizer = config.optimizer
    return optax.chain(
        optax.clip_by_global_norm(optimizer.clip_norm),
        optax.adamw(
            schedule,
            b1=optimizer.b1,
            b2=optimizer.b2,
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            mask=decayed if optimizer.decayed == "kernels" else decayed_except_norms(model),
        ),
    )

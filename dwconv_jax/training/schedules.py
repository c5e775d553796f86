"""How mmseg and mmdet optimise: warm-up that multiplies the schedule, decay of all but norms."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dwconv_jax.layers.weights.position_bias import RelativePositionBias
from dwconv_jax.training.state import PureTree, take_apart

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def poly(peak: float, total_steps: int, *, minimum: float = 0.0, power: float = 1.0) -> Schedule:
    """The rate at a 0-based step: from `peak` to `minimum` as a power of what is left (mmcv)."""

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        left = jnp.maximum(total_steps - jnp.asarray(step, jnp.float32), 0) / total_steps
        return (peak - minimum) * left**power + minimum

    return schedule


def steps(peak: float, decay_steps: Sequence[int]) -> Schedule:
    """The rate at a 0-based step: a tenth of what it was from each of `decay_steps` on (mmcv)."""
    return optax.piecewise_constant_schedule(peak, dict.fromkeys(decay_steps, 0.1))


def with_warmup(schedule: Schedule, warmup_steps: int, warmup_ratio: float) -> Schedule:
    """Multiplies the first rates by a line from `warmup_ratio` at step 0 to 1 (mmcv, "linear")."""

    def warmed_up(step: jax.typing.ArrayLike) -> jax.Array:
        done = jnp.minimum(jnp.asarray(step, jnp.float32) / max(warmup_steps, 1), 1)
        return schedule(step) * (warmup_ratio + (1 - warmup_ratio) * done)

    return warmed_up


def decayed_except_norms(model: nnx.Module) -> PureTree:
    """Which parameters weight decay shrinks: all but layer norms, output norms, position tables.

    mmseg and mmdet exempt names that contain "norm", and the authors' batch norms inside blocks and
    heads are called "bn": they are decayed, and so are biases.

    Args:
      model: may be abstract (`nnx.eval_shape`).

    Returns:
      The model's parameters as a nested dict, with a bool for each.
    """
    mask = jax.tree.map(lambda _: True, take_apart(model)[0])
    for path, module in nnx.iter_modules(model):
        exempt = isinstance(module, (nnx.LayerNorm, RelativePositionBias))
        if exempt or "output_norms" in path[:-1]:
            _clear(mask, path)
    return mask


def _clear(mask: Any, path: tuple[Any, ...]) -> None:
    for key in path[:-1]:
        mask = mask[key]
    mask[path[-1]] = jax.tree.map(lambda _: False, mask[path[-1]])

"""Batch norm as PyTorch keeps it, over the whole batch or groups of images; layer norm."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from dwconv_jax.errors import UserError
from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.layers.initializers import Initializer, full, ones, zeros
from dwconv_jax.layers.mode import is_training


class BatchNorm(nnx.Module):
    """Batch normalization over all axes but the last, with PyTorch's running statistics.

    Statistics are float32 whatever the dtype of the computation. The running variance is unbiased,
    as in PyTorch (Flax's is biased). With a batch split over devices under `jax.jit`, statistics
    are those of the global batch. With `group_size`, they are those of consecutive groups of that
    many images, on any number of devices, and running statistics take their mean: the authors
    trained their classification models with the statistics of one GPU, of 128 images for tiny
    models and 64 for base.

    With `frozen`, training normalizes with the running statistics too, and does not update them.
    """

    def __init__(
        self,
        features: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        group_size: int | None = None,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        """Creates the layer; `momentum` is Flax's (0.9 here is 0.1 in PyTorch), `rngs` is unused.

        Args:
          features: number of channels.
          momentum: share of the old running statistics that an update keeps.
          epsilon: added to the variance.
          group_size: images whose statistics are taken together; None for the whole batch.
          dtype: of the result; None keeps the input's.
          param_dtype: of scale and bias.
          rngs: accepted so that norms are built like every other layer.
        """
        del rngs
        self.momentum, self.epsilon, self.group_size = momentum, epsilon, group_size
        self.dtype, self.use_running_average, self.frozen = dtype, True, False
        self.scale = nnx.Param(full(features, 1, param_dtype))
        self.bias = nnx.Param(full(features, 0, param_dtype))
        self.mean = nnx.BatchStat(full(features, 0))
        self.var = nnx.BatchStat(full(features, 1))

    def __call__(
        self, x: jax.Array, train: bool | None = None, valid: jax.Array | None = None
    ) -> jax.Array:
        """Normalizes `[B, ..., C]`; training uses and records the statistics of the batch.

        Args:
          x: `[B, ..., C]`.
          train: whether to use the statistics of the batch, and to update the running ones; None
            follows `model.train()` and `model.eval()`.
          valid: bool, broadcasts to `[B, ..., 1]`: the positions that statistics are of. None for
            all.

        Returns:
          The shape of `x`.

        Raises:
          ValueError: in training, if `group_size` does not divide the batch or a group holds a
            single value for each channel.
        """
        train = is_training(train, self.use_running_average) and not self.frozen
        maps = self._grouped(x, train).astype(jnp.float32)
        if train:
            scale, offset = self._affine(*self._batch_statistics(maps, x, valid))
        else:
            scale, offset = self.running_affine()
        y = maps * _along(scale, maps) + _along(offset, maps)
        return y.reshape(x.shape).astype(self.dtype or x.dtype)

    def running_affine(self) -> tuple[jax.Array, jax.Array]:
        """What evaluation multiplies each channel by, and then adds to it: float32 `[C]` each."""
        return self._affine(self.mean[...], self.var[...])

    def _affine(self, mean: jax.Array, var: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scale and offset that normalize by statistics `[C]` or `[groups, C]`; of their shape."""
        gain, bias = (
            jnp.broadcast_to(p[...].astype(jnp.float32), var.shape) for p in (self.scale, self.bias)
        )
        scale = jax.lax.rsqrt(var + self.epsilon) * gain
        return scale, bias - mean * scale

    def _grouped(self, x: jax.Array, train: bool) -> jax.Array:
        """`x`, or in training by several groups `[groups, B / groups, ..., C]`.

        Positions keep their axes: with few channels a TPU keeps images in its lanes, and would
        transpose maps to make rows `[N, C]` of them.
        """
        batch = x.shape[0]
        group_size = self.group_size or batch
        if not train or group_size == batch:
            # Without a group axis of 1: XLA:CPU sums products over the middle of [1, N, C], as the
            # gradients do, 20 to 100 times slower than over the rows of [N, C].
            return x
        if batch % group_size:
            raise UserError(f"group_size={group_size} must divide the batch of {batch}")
        return x.reshape(batch // group_size, group_size, *x.shape[1:])

    def _batch_statistics(
        self, maps: jax.Array, x: jax.Array, valid: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance of `_grouped(x)`, `[C]` or `[groups, C]`.

        Updates the running ones. In two passes: E[x^2] - E[x]^2 loses the variance of features that
        hardly vary, and with it percents of some gradients.
        """
        channels, first = x.shape[-1], maps.ndim - x.ndim
        axes = tuple(range(first, maps.ndim - 1))
        count = math.prod(maps.shape[axis] for axis in axes)
        if count < 2:
            raise UserError(
                "training needs more than one value for each channel in a batch-norm group, got "
                f"input {x.shape} in groups of {self.group_size or len(x)} images; use a larger "
                "batch"
            )
        if valid is None:
            mean = maps.mean(axes)
            var = _variance(maps, mean, axes)
            unbiased = var * (count / (count - 1))
        else:
            valid = jnp.broadcast_to(valid, (*x.shape[:-1], 1)).reshape(*maps.shape[:-1], 1)
            mean, var, unbiased = _masked_statistics(maps, valid, axes)

        keep, new = self.momentum, 1 - self.momentum
        for running, groups in ((self.mean, mean), (self.var, unbiased)):
            # Not `[...] =`, which makes Flax catch an error of JAX for every traced array.
            running.set_value(keep * running[...] + new * groups.reshape(-1, channels).mean(0))
        return mean, var


class LayerNorm(nnx.LayerNorm):
    """`nnx.LayerNorm` with PyTorch's epsilon, called like `BatchNorm`."""

    def __init__(
        self,
        features: int,
        *,
        epsilon: float = 1e-5,
        scale_init: Initializer = ones,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        super().__init__(
            features,
            epsilon=epsilon,
            scale_init=scale_init,
            bias_init=zeros,
            promote_dtype=keep_input_dtype,
            rngs=rngs,
            **dtypes,
        )

    def __call__(  # type: ignore[override]
        self, x: jax.Array, train: bool | None = None, valid: jax.Array | None = None
    ) -> jax.Array:
        """Normalizes each position of `[..., C]`, whatever `train` and `valid` are."""
        del train, valid
        return super().__call__(x)


def _along(values: jax.Array, maps: jax.Array) -> jax.Array:
    """Values of channels, `[C]` or `[groups, C]`, to broadcast over maps."""
    ones = (1,) * (maps.ndim - values.ndim)
    return values.reshape(*values.shape[:-1], *ones, values.shape[-1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _variance(maps: jax.Array, mean: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The biased variance over `axes` of maps with that mean.

    It does not change with the mean, where it is least. JAX would read the maps once more to sum
    that derivative.
    """
    return jnp.square(maps - _along(mean, maps)).mean(axes)


@_variance.defjvp
def _variance_jvp(
    axes: tuple[int, ...], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    (maps, mean), (change, _) = primals, tangents
    return _variance(maps, mean, axes), (2 * (maps - _along(mean, maps)) * change).mean(axes)


def _masked_statistics(
    maps: jax.Array, valid: jax.Array, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean, biased and unbiased variance of what is valid, over `axes`."""
    count = jnp.maximum(valid.sum(axes, dtype=jnp.float32), 1)
    mean = jnp.where(valid, maps, 0).sum(axes) / count
    squares = jnp.where(valid, jnp.square(maps - _along(mean, maps)), 0).sum(axes)
    return mean, squares / count, squares / jnp.maximum(count - 1, 1)

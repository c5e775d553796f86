"""Batch norm as PyTorch keeps it, over the whole batch or over groups of images."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    Statistics are float32 whatever the computation. The running variance is the unbiased one, as
    PyTorch stores it (Flax stores the biased one). Under `jax.jit` with a batch split over devices
    the statistics are those of the global batch; `group_size` gives the statistics of consecutive
    groups of that many images instead, on any number of devices (the authors' classification
    models were trained with those of one GPU: 128 images for tiny models, 64 for base). Running
    statistics then take the mean over the groups.
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
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones(features, param_dtype))
        self.bias = nnx.Param(jnp.zeros(features, param_dtype))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(features, jnp.float32))

    def __call__(
        self, x: jax.Array, train: bool = False, valid: jax.Array | None = None
    ) -> jax.Array:
        """Normalises `[B, ..., C]`; `train=True` uses and records the statistics of the batch.

        Args:
          x: `[B, ..., C]`.
          train: whether to use the statistics of the batch, and to update the running ones.
          valid: bool, broadcasts to `[B, ..., 1]`: the positions that statistics are of. None for
            all.

        Returns:
          The shape of `x`.

        Raises:
          ValueError: in training, if `group_size` does not divide the batch or a group holds a
            single value for each channel.
        """
        if train:
            scale, offset = self._affine(*self._batch_statistics(x, valid))
        else:
            scale, offset = (array[None] for array in self.running_affine())
        grouped = x.reshape(len(scale), -1, x.shape[-1])
        y = grouped.astype(jnp.float32) * scale[:, None] + offset[:, None]
        return y.reshape(x.shape).astype(self.dtype or x.dtype)

    def running_affine(self) -> tuple[jax.Array, jax.Array]:
        """What evaluation multiplies each channel by, and then adds to it: float32 `[C]` each."""
        scale, offset = self._affine(self.mean[...][None], self.var[...][None])
        return scale[0], offset[0]

    def _affine(self, mean: jax.Array, var: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scale and offset, `[groups, C]`, that normalise by these statistics."""
        scale = jax.lax.rsqrt(var + self.epsilon) * self.scale[...].astype(jnp.float32)[None]
        return scale, self.bias[...].astype(jnp.float32)[None] - mean * scale

    def _batch_statistics(
        self, x: jax.Array, valid: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance of each group, `[groups, C]`; updates the running ones."""
        batch, channels = x.shape[0], x.shape[-1]
        group_size = self.group_size or batch
        if batch % group_size:
            raise ValueError(f"group_size={group_size} must divide the batch of {batch}")
        grouped = x.reshape(batch // group_size, -1, channels).astype(jnp.float32)
        count = grouped.shape[1]
        if count < 2:
            raise ValueError(
                "training needs more than one value for each channel in a batch-norm group, got "
                f"input {x.shape} in groups of {group_size} images; use a larger batch"
            )
        # Two passes: E[x^2] - E[x]^2, about zero or any other value that is not the mean, loses the
        # variance of features that hardly differ, and percents of some gradients with it.
        if valid is None:
            mean = grouped.mean(1)
            var = jnp.square(grouped - mean[:, None]).mean(1)
            unbiased = var.mean(0) * (count / (count - 1))
        else:
            mean, var, unbiased = _masked_statistics(
                grouped, jnp.broadcast_to(valid, (*x.shape[:-1], 1)).reshape(*grouped.shape[:2], 1)
            )

        keep, new = self.momentum, 1 - self.momentum
        # Not `[...] =`: of a traced array Flax then asks what only an error message of JAX's tells.
        self.mean.set_value(keep * self.mean[...] + new * mean.mean(0))
        self.var.set_value(keep * self.var[...] + new * unbiased)
        return mean, var


def _masked_statistics(x: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and biased variance `[groups, C]`, and the mean over groups of the unbiased one."""
    count = jnp.maximum(valid.sum(1, dtype=jnp.float32), 1)
    mean = jnp.where(valid, x, 0).sum(1) / count
    squares = jnp.where(valid, jnp.square(x - mean[:, None]), 0).sum(1)
    return mean, squares / count, (squares / jnp.maximum(count - 1, 1)).mean(0)

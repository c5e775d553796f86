"""Mixup and cutmix as in timm's `Mixup(mode="batch")` (arXiv 1710.09412, 1905.04899).

They run on the device, inside the training step, where they cost next to nothing. A group of images
shares one draw: each image is mixed with its mirror in the group, the first with the last. The
authors' groups are the images of one GPU (128 for the tiny models, 64 for the base models); here
`group_size` sets them, for any number of devices. Groups within a device need no communication.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict


def mix(
    images: jax.Array, targets: jax.Array, rngs: nnx.Rngs, config: ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """Mixes a batch by mixup or cutmix; one of them is drawn for each group.

    Args:
      images: float `[B, H, W, C]`.
      targets: probabilities, `[B, K]`.
      rngs: gives a key if there is anything to mix.
      config: `config.mix`, see dwconv_jax/training/config.py.

    Returns:
      Images and targets, unchanged if neither alpha is positive.
    """
    if not config.mixup_alpha and not config.cutmix_alpha:
        return images, targets
    _, height, width, _ = images.shape
    group_size = config.group_size or len(images)
    keys = jax.random.split(rngs.mix(), len(images) // group_size)
    own, means = jax.vmap(lambda key: own_shares(key, height, width, config))(keys)

    def blend(x: jax.Array, own: jax.Array) -> jax.Array:
        groups = x.reshape(-1, group_size, *x.shape[1:])
        return (own * groups + (1 - own) * groups[:, ::-1]).reshape(x.shape)

    mixed_images = blend(images, own[:, None, :, :, None].astype(images.dtype))
    return mixed_images, blend(targets, means[:, None, None])


def own_shares(
    key: jax.Array, height: int, width: int, config: ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """Draws how much of each pixel an image keeps.

    For mixup the same share everywhere, from Beta(alpha, alpha). For cutmix 0 inside a box and 1
    outside; the mean is exact, after the box is cut at the border.

    Returns:
      float32 `[H, W]`, and its mean.
    """
    choice_key, share_key, row_key, column_key = jax.random.split(key, 4)
    cuts = jax.random.bernoulli(choice_key, _cutmix_probability(config))
    alpha = jnp.where(cuts, config.cutmix_alpha, config.mixup_alpha)
    share = jax.random.beta(share_key, alpha, alpha)
    rows, columns = _interval(row_key, height, share), _interval(column_key, width, share)
    outside = 1.0 - rows[:, None] * columns[None]
    mean_outside = 1.0 - rows.sum() * columns.sum() / (height * width)
    return jnp.where(cuts, outside, share), jnp.where(cuts, mean_outside, share)


def _interval(key: jax.Array, length: int, share: jax.Array) -> jax.Array:
    """Returns 1 inside a box that leaves `share` of the area, along one side: `[length]`."""
    half = (length * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    center = jax.random.randint(key, (), 0, length)
    pixels = jnp.arange(length)
    return ((center - half <= pixels) & (pixels < center + half)).astype(jnp.float32)


def _cutmix_probability(config: ConfigDict) -> float:
    if not config.mixup_alpha:
        return 1.0
    return config.cutmix_probability if config.cutmix_alpha else 0.0

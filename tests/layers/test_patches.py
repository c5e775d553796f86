import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.layers import PatchEmbed, PatchMerging
from tests.numerics import assert_close


def test_patch_embedding_is_a_strided_convolution_of_the_padded_image(rng):
    embed = PatchEmbed(3, 8, 4, rngs=nnx.Rngs(0))
    images = rng.normal(size=(2, 9, 8, 3)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (0, 3), (0, 0), (0, 0)))
    first = padded[:, 4:8, :4].reshape(2, -1) @ np.asarray(embed.proj.kernel[...])
    expected = embed.norm(jnp.array(first + np.asarray(embed.proj.bias[...])))
    y = embed(jnp.array(images))
    assert y.shape == (2, 3, 2, 8)
    assert_close(y[:, 1, 0], expected, 1e-5)


def test_patch_merging_stacks_neighbours_in_swins_order(rng):
    merging = PatchMerging(2, rngs=nnx.Rngs(0))
    x = rng.normal(size=(1, 3, 4, 2)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
    stacked = np.concatenate([padded[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
    expected = merging.reduction(merging.norm(jnp.array(stacked)))
    assert_close(merging(jnp.array(x)), expected, 1e-5)

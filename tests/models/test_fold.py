"""Models with folded batch norms compute the same, and keep no norm that could be folded."""

import jax
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax.layers import BatchNorm
from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.blocks.mbconv import MBConv
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.fold import fold_batch_norms
from tests.numerics import assert_close

TINY = dict(embed_dim=8, depths=(1, 1), window_size=3, patch_size=2, num_classes=3)
# The model, its options, and how many norms have no weights to go into.
MODELS = {
    "static": ("dwnet_tiny", {}, 0),
    "shared by channels": ("dwnet_tiny", dict(mixer=dict(groups=2)), 2),
    "unshared": ("dwnet_tiny", dict(mixer=dict(share_positions=False), image_size=10), 0),
    "pooled": ("dynamic_dwnet_tiny", {}, 0),
    "centre": ("i_dynamic_dwnet_tiny", dict(channels_per_group=2), 2),
    "attention": (
        "dwnet_tiny", dict(mixer=dict(connectivity="window", dynamic="attention", groups=2)), 0
    ),
    "inverted bottlenecks": (
        "efficientnet_lite0", dict(embed_dim=(4, 8), depths=(1, 1), mlp_ratio=(1, 6),
                                   mixer=dict(kernel_size=(3, 5))), 0
    ),
}  # fmt: skip


def trained(name, **options):
    """A model whose batch norms do something."""
    return with_statistics(dwconv_jax.create_model(name, **(TINY | options), rngs=nnx.Rngs(0)))


def with_statistics(model):
    for i, (_, norm) in enumerate(nnx.iter_modules(model)):
        if isinstance(norm, BatchNorm):
            keys = jax.random.split(jax.random.key(i), 4)
            norm.mean[...] = jax.random.normal(keys[0], norm.mean.shape)
            norm.var[...] = jax.random.uniform(keys[1], norm.var.shape, minval=0.2, maxval=2)
            norm.scale[...] = jax.random.normal(keys[2], norm.scale.shape)
            norm.bias[...] = jax.random.normal(keys[3], norm.bias.shape)
    return model


@pytest.mark.parametrize(("name", "options", "left"), MODELS.values(), ids=MODELS)
def test_folding_changes_nothing_but_the_norms(name, options, left):
    images = jax.random.normal(jax.random.key(0), (2, 10, 10, 3))
    model = trained(name, **options)
    folded = fold_batch_norms(model)
    before, after = jax.jit(lambda x: (model(x), folded(x)))(images)
    assert_close(after, before, 1e-5)
    norms = [m for _, m in nnx.iter_modules(folded) if isinstance(m, BatchNorm)]
    assert len(norms) == left
    assert any(isinstance(m, BatchNorm) for _, m in nnx.iter_modules(model))


def test_mbconvs_take_their_norms():
    spec = BlockSpec(config=BackboneConfig(), in_features=6, features=8, stride=2, mixer={})
    block = with_statistics(MBConv(spec, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 6))
    folded = fold_batch_norms(block)
    before, after = jax.jit(lambda x: (block(x, False), folded(x, False)))(x)
    assert_close(after, before, 1e-5)
    assert not any(isinstance(m, BatchNorm) for _, m in nnx.iter_modules(folded))


def test_convolutions_of_heads_take_their_norms():
    head = with_statistics(ConvNormAct(6, 4, 3, rngs=nnx.Rngs(0)))
    folded = fold_batch_norms(head)
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 6))
    assert_close(folded(x, False), head(x, False), 1e-5)
    assert not isinstance(folded.norm, BatchNorm)


def test_folded_models_are_not_trained():
    folded = fold_batch_norms(trained("dwnet_tiny"))
    with pytest.raises(ValueError, match="train=True does not go with folded batch norms"):
        folded(jax.numpy.ones((2, 10, 10, 3)), train=True)

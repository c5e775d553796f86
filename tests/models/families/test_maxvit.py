"""MaxViT against timm, its layout and its initialization."""

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from dwconv_jax.models.classifier import Classifier, ClassifierConfig
from dwconv_jax.models.families import maxvit
from tests import golden
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

TINY = dict(embed_dim=8, depths=(1,), num_classes=3, channels_per_group=4)


def test_golden():
    config = golden.load("zoo_maxvit").config
    family = maxvit.family(config.pop("stem_features"))
    mixer = maxvit.VARIANTS["maxvit_tiny_tf_224"].mixer
    mixer = {**mixer, "channels_per_group": config.pop("head_features")}
    config = ClassifierConfig(patch_size=2, **config)
    check_golden("maxvit", lambda: Classifier(family, mixer, config, rngs=nnx.Rngs(0)))


def test_tables_of_other_windows_are_resized():
    table = "stages.0.blocks.0.attn_grid.attn.rel_pos.relative_position_bias_table"
    weights = random_state_dict(abstract_model("maxvit_tiny_tf_224", **TINY))
    weights[table] = np.tile(np.linspace(-1, 1, 13, dtype="f4")[:, None], (2, 1, 13))
    model = abstract_model("maxvit_tiny_tf_384", **TINY)
    with pytest.raises(UserError, match="misshapen"):
        load_torch(model, weights)
    resized = to_torch(load_torch(model, weights, strict=False))[table]
    assert resized.shape == (2, 23, 23)
    np.testing.assert_array_equal(resized[:, :, :1], resized[:, :, 1:2])
    assert (np.diff(resized[0, :, 0]) > 0).all()  # the rows kept their order


def test_a_layer_of_ones_own_goes_into_both_places():
    overrides = {**TINY, "channels_per_group": None}
    model = abstract_model("maxvit_tiny_tf_224", **overrides, mixer=dict(kernel_size=3))
    (block,) = model.stages[0].blocks
    assert block.near.mixer.connectivity == block.far.mixer.connectivity
    with pytest.raises(UserError, match="no PyTorch layout"):
        to_torch(model)


def test_initialization():
    @jax.jit
    def initialize():
        model = create_model("maxvit_tiny_tf_224", **TINY | dict(embed_dim=32), rngs=nnx.Rngs(0))
        (block,) = model.stages[0].blocks
        conv, mlp = block.conv, block.near.mlp
        kernels = conv.pointwise_in, conv.depthwise, model.patch_embed.conv2, mlp.fc1
        biases = conv.pointwise_out, conv.gate.squeeze, mlp.fc1
        return (
            [layer.kernel[...].std() for layer in kernels],
            [layer.bias[...] for layer in biases],
        )

    deviations, biases = initialize()
    expected = np.sqrt([2 / 128, 2 / 9, 2 / (9 * 64), 2 / (32 + 128)])
    np.testing.assert_allclose(deviations, expected, rtol=0.1)
    assert not any(map(np.any, biases))


@pytest.mark.slow
def test_full_size_round_trip_is_exact():
    weights = random_state_dict(abstract_model("maxvit_tiny_tf_224"))
    assert_same(to_torch(load_torch(abstract_model("maxvit_tiny_tf_224"), weights)), weights)

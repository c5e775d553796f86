"""CSWin against the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from dwconv_jax.models.families.cswin import StripeAttention
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

TINY = dict(
    embed_dim=8, depths=(1, 1, 2, 1), num_heads=(2, 2, 4, 4), window_size=(1, 2, 2, 2), mlp_ratio=2,
    num_classes=5,
)  # fmt: skip


def test_golden():
    check_golden("cswin", lambda: create_model("cswin_tiny_224", **TINY, rngs=nnx.Rngs(0)))


@pytest.mark.slow
def test_full_size_round_trip_is_exact():
    weights = random_state_dict(abstract_model("cswin_tiny_224"))
    model = load_torch(abstract_model("CSWin_64_12211_tiny_224"), weights)
    assert_same(to_torch(model), weights)


def test_stripes_that_the_map_does_not_fill_see_no_padding(rng):
    layer = StripeAttention(8, 2, 3, rngs=nnx.Rngs(0))
    layer.qkv.bias.set_value(jnp.array(rng.normal(size=24), jnp.float32))
    x = jnp.array(rng.normal(size=(1, 3, 5, 8)), jnp.float32)

    # The first half of the heads alone, in upright stripes; the last is two columns wide.
    layer.proj.kernel.set_value(jnp.eye(8).at[4:].set(0))
    apply = jax.jit(lambda x: (layer(x)[:, :, 3:], layer(x[:, :, 3:])))
    np.testing.assert_allclose(*apply(x), atol=1e-6)


def test_other_mixers_and_mistakes():
    options = {name: value for name, value in TINY.items() if name != "num_heads"}
    options["mixer"] = dict(connectivity="sliding", kernel_size=3, dynamic="none")

    def apply():
        return create_model("cswin_tiny_224", **options, rngs=nnx.Rngs(0))(
            jnp.zeros((1, 40, 72, 3))
        )

    assert jax.eval_shape(apply).shape == (1, 5)
    with pytest.raises(UserError, match=r"stage1\.0: the original attends in stripes"):
        to_torch(abstract_model("cswin_tiny_224", **options))
    with pytest.raises(UserError, match="num_heads=1 must be even"):
        abstract_model("cswin_tiny_224", **TINY | dict(num_heads=1))

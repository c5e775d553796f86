"""UniFormer against the authors' code."""

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from dwconv_jax.models.fold import fold_batch_norms
from tests.convert.released import abstract_model, assert_same, random_model, random_state_dict
from tests.models.families.golden import check_golden

TINY = dict(
    embed_dim=(8, 16, 24, 32), depths=(1, 1, 1, 1), channels_per_group=(1, 1, 8, 8), mlp_ratio=2,
    num_classes=5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("golden", "name"), [("uniformer", "small"), ("uniformer_plus", "small_plus")]
)
def test_golden(golden, name):
    check_golden(golden, lambda: create_model(f"uniformer_{name}", **TINY, rngs=nnx.Rngs(0)))


def test_scales_of_layers_are_in_the_layout():
    weights = random_state_dict(abstract_model("uniformer_base_ls", **TINY))
    model = load_torch(abstract_model("uniformer_base_ls", **TINY), weights)
    (block,) = model.stages[2].blocks
    np.testing.assert_array_equal(block.scales[24:], weights["blocks3.0.gamma_2"])
    assert_same(to_torch(model), weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uniformer_small", "uniformer_small_plus"])
def test_full_size_round_trip_is_exact(name):
    weights = random_state_dict(abstract_model(name))
    assert_same(to_torch(load_torch(abstract_model(name), weights)), weights)


def test_folded_norms_compute_the_same(rng):
    mixer = dict(connectivity="sliding", dynamic="none")
    model = random_model("uniformer_small_plus", embed_dim=8, depths=(1, 1), mixer=mixer)
    folded = fold_batch_norms(model)
    images = rng.normal(size=(1, 16, 16, 3)).astype(np.float32)
    actual, expected = jax.jit(lambda x: (folded(x), model(x)))(images)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * abs(expected).max())


def test_what_the_original_lacks_is_named():
    options = {name: value for name, value in TINY.items() if name != "channels_per_group"}
    mixer = dict(connectivity="sliding", dynamic="none")
    with pytest.raises(UserError, match=r"blocks3\.0\.attn: .* dynamic='none'"):
        to_torch(abstract_model("uniformer_small", **options, mixer=mixer))

"""Low-rank adaptation of linear layers, and the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import create_model
from dwconv_jax.convert import to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import add_lora, merge_lora
from tests.numerics import assert_close


def make_model():
    return create_model(
        "swin_tiny", embed_dim=8, depths=(1,), num_heads=(2,), window_size=2, num_classes=5,
        patch_size=2, rngs=nnx.Rngs(0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)


def lora_names(model):
    paths = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model, nnx.LoRAParam)))
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths}


def test_a_model_computes_the_same_until_it_is_trained_and_after_merging(images):
    plain, model = make_model(), make_model()
    add_lora(model, 2, rngs=nnx.Rngs(1))
    run = jax.jit(lambda model, images: model(images))
    expected = run(plain, images)
    np.testing.assert_array_equal(run(model, images), expected)

    for path, param in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam)):
        if path[-1] == "lora_b":
            param[...] = jax.random.normal(jax.random.key(0), param.shape)
    trained = run(model, images)
    assert np.abs(trained - expected).max() > 0.1 * np.abs(expected).max()
    merge_lora(model)
    assert not lora_names(model)
    assert jax.tree.structure(nnx.state(model)) == jax.tree.structure(nnx.state(plain))
    assert_close(run(model, images), trained, 1e-5)
    changed = {
        name for name, array in to_torch(plain).items()
        if not np.array_equal(array, to_torch(model)[name])
    }  # fmt: skip
    assert changed == {
        f"layers.0.blocks.0.{layer}.weight"
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }


def test_layers_are_chosen_by_pattern():
    model = add_lora(make_model(), 3, ("mlp/fc1", "head"), rngs=nnx.Rngs(0))
    layers = ("stages/0/blocks/0/mlp/fc1", "head")
    assert lora_names(model) == {f"{n}/lora/lora_{m}" for n in layers for m in "ab"}
    assert model.head.lora.lora_a.shape == (8, 3)


def test_layers_that_do_not_exist_are_named():
    with pytest.raises(UserError, match=r"\('query',\) are in .* end in fc1, fc2, head, proj, qkv"):
        add_lora(make_model(), 2, ("query",), rngs=nnx.Rngs(0))

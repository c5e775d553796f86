"""Models that cost nothing to make, and random weights in the released layout."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.convert import load_torch
from dwconv_jax.models import create_model
from dwconv_jax.models.torch_layout import Buffer

SMALL = dict(embed_dim=8, depths=(1, 2), window_size=4, num_classes=3)
# The smallest of each family: the models of one differ in size only.
FAMILIES = {
    "dwnet_tiny": SMALL | dict(window_size=3),
    "dynamic_dwnet_tiny": SMALL | dict(window_size=3),
    "i_dynamic_dwnet_tiny": SMALL | dict(window_size=3, channels_per_group=(2, 4)),
    "swin_tiny": SMALL | dict(num_heads=(1, 2)),
}


def abstract_model(name, **overrides):
    """A model without arrays, to load weights into."""
    return nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0), **overrides))


def random_model(name, seed=0, **overrides):
    """A model with random weights; to draw them with NumPy compiles nothing."""
    model = abstract_model(name, **overrides)
    rng = np.random.default_rng(seed)

    def normal(leaf):
        return jnp.asarray(rng.standard_normal(leaf.shape, np.float32))

    nnx.update(model, jax.tree.map(normal, nnx.state(model, nnx.Param)))
    statistics = jax.tree.map(lambda leaf: abs(normal(leaf)), nnx.state(model, nnx.BatchStat))
    nnx.update(model, statistics)
    return model


def small_model(name, **overrides):
    return abstract_model(name, **FAMILIES[name] | overrides)


def random_state_dict(model, seed=0, image_size=224):
    rng = np.random.default_rng(seed)

    def random(entry):
        values = rng.standard_normal(entry.shape, np.float32)
        return np.abs(values) if entry.name.endswith("running_var") else values

    return {
        item.name: item.value if isinstance(item, Buffer) else random(item)
        for item in model.torch_layout(image_size)
    }


def filled_model(name, **overrides):
    """A small model with weights of its own; faster than initialising one."""
    model = small_model(name, **overrides)
    return load_torch(model, random_state_dict(model, seed=1))


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        np.testing.assert_array_equal(actual[name], array, name)

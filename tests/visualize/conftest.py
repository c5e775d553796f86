import jax
import numpy as np
import pytest
from flax import nnx

import dwconv_jax

pytest.importorskip("matplotlib")


def tiny(name, **overrides):
    options = dict(embed_dim=8, depths=(1, 1), window_size=3, patch_size=2, num_classes=3)
    # With this seed the few hidden units that predict kernels do not all die in their ReLU.
    return dwconv_jax.create_model(name, **(options | overrides), rngs=nnx.Rngs(2))


@pytest.fixture(scope="session")
def images():
    return jax.random.normal(jax.random.key(0), (3, 14, 14, 3))


@pytest.fixture(scope="session")
def static_model():
    return tiny("dwnet_tiny")


@pytest.fixture(scope="session")
def pooled_model():
    model = tiny("dynamic_dwnet_tiny")
    # Kernels as they are at the start hardly differ between images.
    norm = model.stages[0].blocks[0].mixer.source.norm
    norm.var[...] = np.full(norm.var.shape, 1e-3, np.float32)
    return model

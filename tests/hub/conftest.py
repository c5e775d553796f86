import numpy as np
import pytest
from flax import nnx
from PIL import Image

import dwconv_jax
from tests import golden


@pytest.fixture(scope="module")
def expected():
    return golden.load("zoo_hub")


@pytest.fixture(scope="module")
def model():
    return dwconv_jax.create_model(
        "dwnet_tiny", embed_dim=8, depths=(1,), num_classes=3, rngs=nnx.Rngs(0)
    )


@pytest.fixture
def picture(expected):
    return Image.fromarray(expected["input/picture"].astype(np.uint8))

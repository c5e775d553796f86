"""Backbones of all families in dense prediction: any size, and pictures of several sizes."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.models import VARIANTS
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.config import BackboneConfig


@pytest.mark.parametrize(
    "name", ["pvt_v2_b0", "pvt_v2_b2_li", "uniformer_small", "cswin_tiny_224", "swin_mlp_tiny_c24"]
)
def test_maps_have_the_strides_of_heads(name):
    variant = VARIANTS[name]
    config = BackboneConfig(embed_dim=variant.embed_dim, depths=(1, 2, 1, 1), **variant.config)

    def features():
        backbone = Backbone(
            variant.family, variant.mixer, config, pad_to_window=True, rngs=nnx.Rngs(0)
        )
        images = jnp.zeros((2, 70, 101, 3))
        return backbone.features(images, canvas=Canvas(jnp.array([[70, 101], [40, 33]])))

    maps = jax.eval_shape(features)
    assert [m.shape[1:3] for m in maps] == [(18, 26), (9, 13), (5, 7), (3, 4)]

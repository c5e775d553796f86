"""Swin V2 against timm."""

from flax import nnx

import dwconv_jax
from tests import golden
from tests.models.families.golden import check_golden


def test_swin_v2_is_timms():
    config = golden.load("zoo_swin_v2").config
    attention = tuple(
        dict(position_bias="mlp", cosine=True, qkv_bias="qv", pretrained_window=window or None)
        for window in config.pop("pretrained_window")
    )
    mixer = dict(
        connectivity="window",
        dynamic="attention",
        num_heads=config.pop("num_heads"),
        attention=attention,
    )
    check_golden(
        "swin_v2",
        lambda: dwconv_jax.create_model(
            "swinv2_tiny_window8_256", mixer=mixer, rngs=nnx.Rngs(0), **config
        ),
    )

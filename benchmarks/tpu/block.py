"""DWNet's block, as the TPU benchmarks compile it."""

import jax.numpy as jnp
from flax import nnx

from benchmarks.stages import KERNEL
from dwconv_jax.models import BackboneConfig
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.families.dwnet import DWBlock


def make_block(channels: int, lowering: str, mlp_ratio: float) -> DWBlock:
    """A block in bfloat16 with static weights, mixed by `lowering`."""
    mixer = dict(connectivity="sliding", kernel_size=KERNEL, dynamic="none", lowering=lowering)
    config = BackboneConfig(mlp_ratio=mlp_ratio, dtype=jnp.bfloat16)
    spec = BlockSpec(config=config, in_features=channels, features=channels, mixer=mixer)
    return DWBlock(spec, rngs=nnx.Rngs(0))

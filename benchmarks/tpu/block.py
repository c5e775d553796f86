"""DWNet's block, as the TPU benchmarks compile it."""

import jax.numpy as jnp
from dwconv_jax.models.families.blocks import DWBlock
from flax import nnx

from benchmarks.stages import KERNEL


def make_block(channels: int, lowering: str, mlp_ratio: float) -> DWBlock:
    """A block in bfloat16 with static weights, mixed by `lowering`."""
    mixer = dict(connectivity="sliding", kernel_size=KERNEL, dynamic="none", lowering=lowering)
    return DWBlock(
        channels,
        mixer=mixer,
        mlp_ratio=mlp_ratio,
        drop_path=0.0,
        batch_norm_group_size=None,
        dtype=jnp.bfloat16,
        rngs=nnx.Rngs(0),
    )

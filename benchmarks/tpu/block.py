"""DWNet's block, as the TPU benchmarks compile it."""

import jax.numpy as jnp
from flax import nnx

from benchmarks.stages import KERNEL
from dwconv_jax.models.block import BlockSpec
from dwconv_jax.models.families.dwnet import DWBlock


def make_block(channels: int, lowering: str, mlp_ratio: float) -> DWBlock:
    """A block in bfloat16 with static weights, mixed by `lowering`."""
    mixer = dict(connectivity="sliding", kernel_size=KERNEL, dynamic="none", lowering=lowering)
    spec = BlockSpec(
        channels,
        mixer,
        mlp_ratio=mlp_ratio,
        drop_path_rate=0.0,
        batch_norm_group_size=None,
        pad_to_window=False,
        squeeze_excitation=False,
        dtypes=dict(dtype=jnp.bfloat16),
    )
    return DWBlock(spec, rngs=nnx.Rngs(0))

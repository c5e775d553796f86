"""PyTorch checkpoints in and out: `load_torch`, `to_torch`, and their files."""

from dwconv_jax.convert.torch_files import read_state_dict, write_state_dict
from dwconv_jax.convert.weights import load_torch, to_torch

__all__ = ["load_torch", "read_state_dict", "to_torch", "write_state_dict"]

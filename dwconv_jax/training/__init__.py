"""Training and evaluation: one loop, one file for each of its concerns."""

from dwconv_jax.training.config import base_config
from dwconv_jax.training.loop import NonFiniteError, evaluate, train

__all__ = ["NonFiniteError", "base_config", "evaluate", "train"]

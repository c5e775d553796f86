"""Training and evaluation: one loop (`loop.train`, `loop.evaluate`), one file per concern.

This package imports nothing heavy, so that config files and `--help` do not wait for TensorFlow.
"""

from dwconv_jax.training.config import base_config

__all__ = ["base_config"]

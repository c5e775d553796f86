"""Training and evaluation: one loop (`loop.train`, `loop.evaluate`), a file for each concern.

Nothing heavy is imported here, so that config files and `--help` do not wait for TensorFlow.
"""

from dwconv_jax.training.config import base_config

__all__ = ["base_config"]

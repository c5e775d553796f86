"""Trained models as files that run with JAX alone: `python -m dwconv_jax.export --help`."""

from dwconv_jax.inference.artifact import PLATFORMS, export_model

__all__ = ["PLATFORMS", "export_model"]

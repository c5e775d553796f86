"""Backbones and task models, and the table of named variants."""

from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.classifier import Classifier
from dwconv_jax.models.multiply_adds import multiply_adds
from dwconv_jax.models.variants import VARIANTS, Variant, create_model, list_models

__all__ = [
    "VARIANTS",
    "Backbone",
    "Classifier",
    "Variant",
    "create_model",
    "list_models",
    "multiply_adds",
]

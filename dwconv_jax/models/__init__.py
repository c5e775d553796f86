"""Backbones and task models, and the table of named variants."""

from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.classifier import Classifier
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.dense_backbone import DenseBackbone
from dwconv_jax.models.detection.cascade_mask_rcnn import CascadeMaskRCNN
from dwconv_jax.models.lora import add_lora, merge_lora
from dwconv_jax.models.multiply_adds import multiply_adds
from dwconv_jax.models.recipe import Preprocessing
from dwconv_jax.models.registry import (
    TASK_VARIANTS,
    VARIANTS,
    Model,
    TaskVariant,
    create_model,
    list_models,
)
from dwconv_jax.models.segmentation.upernet import UPerNet
from dwconv_jax.models.variant import Variant

__all__ = [
    "TASK_VARIANTS",
    "VARIANTS",
    "Backbone",
    "BackboneConfig",
    "CascadeMaskRCNN",
    "Classifier",
    "DenseBackbone",
    "Model",
    "Preprocessing",
    "TaskVariant",
    "UPerNet",
    "Variant",
    "add_lora",
    "create_model",
    "list_models",
    "merge_lora",
    "multiply_adds",
]

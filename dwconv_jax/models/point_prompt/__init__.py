"""Point-to-Pixel prompting: point clouds through classifiers of images (P2P, NeurIPS 2022)."""

from dwconv_jax.models.point_prompt.classifier import PointClassifier, create_point_classifier
from dwconv_jax.models.point_prompt.config import PromptConfig
from dwconv_jax.models.point_prompt.preprocessing import CloudPreprocessing
from dwconv_jax.models.point_prompt.prompt import PointPrompt

__all__ = [
    "CloudPreprocessing",
    "PointClassifier",
    "PointPrompt",
    "PromptConfig",
    "create_point_classifier",
]

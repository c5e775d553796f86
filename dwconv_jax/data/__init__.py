"""Data sets as iterators of NumPy batches: tfds builders and tf.data pipelines, no JAX."""

import os

# oneDNN makes a program for each new shape of a matrix product, and every crop has its own. It
# listens only before TensorFlow is imported; what the user says comes first.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf

# TensorFlow only reads data here. Without this it would claim the GPU's memory before JAX does.
tf.config.set_visible_devices([], "GPU")

from dwconv_jax.data.builders import digits as digits  # noqa: E402  (registers the builder with tfds)
from dwconv_jax.data.classification.config import ClassificationConfig  # noqa: E402
from dwconv_jax.data.classification.dataset import (  # noqa: E402
    ClassificationDataset,
    describe_classification,
    load_classification,
)
from dwconv_jax.data.detection.config import DetectionConfig  # noqa: E402
from dwconv_jax.data.detection.dataset import (  # noqa: E402
    DetectionDataset,
    describe_detection,
    load_detection,
)
from dwconv_jax.data.segmentation.config import SegmentationConfig  # noqa: E402
from dwconv_jax.data.segmentation.dataset import (  # noqa: E402
    SegmentationDataset,
    describe_segmentation,
    load_segmentation,
)

__all__ = [
    "ClassificationConfig",
    "ClassificationDataset",
    "DetectionConfig",
    "DetectionDataset",
    "SegmentationConfig",
    "SegmentationDataset",
    "describe_classification",
    "describe_detection",
    "describe_segmentation",
    "load_classification",
    "load_detection",
    "load_segmentation",
]

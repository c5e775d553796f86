"""Data sets as iterators of NumPy batches: tfds builders and tf.data pipelines, no JAX.

Names are imported when they are used, so that config files do not wait for TensorFlow.
"""

import os

from etils import epy

# oneDNN compiles a program for each new shape of a matrix product, and every crop has its own. It
# reads the variable when TensorFlow is imported; the user's setting takes precedence.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

with epy.lazy_api_imports(globals()):
    from dwconv_jax.data.classification.config import ClassificationConfig
    from dwconv_jax.data.classification.dataset import ClassificationDataset, load_classification
    from dwconv_jax.data.classification.info import describe_classification
    from dwconv_jax.data.detection.config import DetectionConfig
    from dwconv_jax.data.detection.dataset import DetectionDataset, load_detection
    from dwconv_jax.data.detection.info import describe_detection
    from dwconv_jax.data.multilabel.config import MultilabelConfig
    from dwconv_jax.data.multilabel.dataset import MultilabelDataset, load_multilabel
    from dwconv_jax.data.point_cloud.config import PointCloudConfig
    from dwconv_jax.data.point_cloud.dataset import (
        PointCloudDataset,
        describe_point_clouds,
        load_point_clouds,
    )
    from dwconv_jax.data.segmentation.config import SegmentationConfig
    from dwconv_jax.data.segmentation.dataset import SegmentationDataset, load_segmentation
    from dwconv_jax.data.segmentation.info import describe_segmentation

__all__ = [
    "ClassificationConfig",
    "ClassificationDataset",
    "DetectionConfig",
    "DetectionDataset",
    "MultilabelConfig",
    "MultilabelDataset",
    "PointCloudConfig",
    "PointCloudDataset",
    "SegmentationConfig",
    "SegmentationDataset",
    "describe_classification",
    "describe_detection",
    "describe_point_clouds",
    "describe_segmentation",
    "load_classification",
    "load_detection",
    "load_multilabel",
    "load_point_clouds",
    "load_segmentation",
]

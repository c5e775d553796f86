"""What is known of images with one label each without opening them."""

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dwconv_jax.data.catalog import count_training_examples, find_builder, prepare_builder
from dwconv_jax.data.classification.config import LISTED, ClassificationConfig
from dwconv_jax.data.info import ArraySpec, DatasetInfo
from dwconv_jax.errors import UserError


def describe_classification(config: ClassificationConfig | ConfigDict) -> "ClassificationInfo":
    """A data set without its examples: it knows its classes, size and the shapes of its batches.

    A tfds data set need not be prepared. The classes of a folder are its folders, which must exist.

    Args:
      config: the fields of `ClassificationConfig`.

    Raises:
      UserError: as for `load_classification`, or `num_train` is needed.
      FileNotFoundError: there is no such folder.
    """
    config = ClassificationConfig.from_config(config)
    if config.name in LISTED:
        # Only files tell their classes; they are listed by TensorFlow.
        from dwconv_jax.data.classification.dataset import load_classification

        return load_classification(config)
    builder = find_builder(config)
    image, label = image_and_label(config, builder)
    num_train = count_training_examples(config, prepare_builder(config, builder))
    return ClassificationInfo(config, tuple(label.names), image.shape[-1], num_train)


class ClassificationInfo(DatasetInfo):
    """Images with one label each; see `DatasetInfo`."""

    def train_spec(self) -> dict[str, ArraySpec]:
        """See `DatasetInfo`."""
        size = self._config.image_size
        image = ArraySpec((size, size, self.channels), np.float32)
        return {"image": image, "label": ArraySpec((), np.int32)}

    def balanced_weights(self) -> np.ndarray:
        """Weights of the classes, float32 `[num_classes]`: ones, since no example is known."""
        return np.ones(self.num_classes, np.float32)


def image_and_label(
    config: ClassificationConfig, builder: tfds.core.DatasetBuilder
) -> tuple[tfds.features.Image, tfds.features.ClassLabel]:
    """The features of an image classification; a UserError if a data set is none."""
    image, label = (dict(builder.info.features).get(key) for key in ("image", "label"))
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(
            f"config.dataset.name={config.name!r} is not an image classification: it needs the "
            "features 'image' and 'label' (a ClassLabel), and has "
            f"{', '.join(builder.info.features)}"
        )
    dtype, channels = np.dtype(image.np_dtype), image.shape[-1]
    if dtype != np.uint8 or channels not in (1, 3):
        raise UserError(
            f"config.dataset.name={config.name!r} has images of {dtype} {tuple(image.shape)}: "
            "legal are uint8 with 1 or 3 channels"
        )
    config.check_channels(channels)
    return image, label

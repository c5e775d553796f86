"""Preprocessing of evaluation images; needs the configuration alone, no data set."""

import tensorflow as tf

from dwconv_jax.data.image.decode import open_image
from dwconv_jax.data.image.normalize import normalize
from dwconv_jax.data.segmentation import augment
from dwconv_jax.data.segmentation.config import CHANNELS, SegmentationConfig
from dwconv_jax.data.segmentation.label_map import IGNORED
from dwconv_jax.data.stream import Example

# Label maps are padded to a multiple of this times `size_multiple`, so that few shapes compile.
_LABEL_MULTIPLE = 8


def evaluation_pair(image: tf.Tensor, labels: tf.Tensor, config: SegmentationConfig) -> Example:
    """What an evaluation batch holds of a decoded image and its label map, mask aside.

    Args:
      image: float32 `[h, w, 3]`, in 0..255.
      labels: uint8 `[h, w]`.
      config: see `SegmentationConfig`.

    Returns:
      'views': the image at each of `eval_scales`, resized and normalized; 'label': int32, padded
      with 255; 'size': int32 `[2]`, `(h, w)`.
    """
    size = tf.shape(labels)
    *views, canvas = eval_shapes(size, config)
    bottom, right = tf.unstack(canvas - size)
    labels = tf.pad(labels, [[0, bottom], [0, right]], constant_values=IGNORED)
    return {
        "views": tuple(normalize(augment.resize_image(image, view), config) for view in views),
        "label": tf.cast(labels, tf.int32),
        "size": size,
    }


def picture(encoded: tf.Tensor, config: SegmentationConfig) -> Example:
    """What a batch for prediction holds of an encoded picture, whose labels are all 255.

    Raises:
      UnreadableError: the picture cannot be read.
    """
    image = tf.cast(open_image(encoded, CHANNELS, config.max_pixels), tf.float32)
    labels = tf.fill(tf.shape(image)[:2], tf.constant(IGNORED, tf.uint8))
    return evaluation_pair(image, labels, config)


def eval_shapes(size: tf.Tensor, config: SegmentationConfig) -> list[tf.Tensor]:
    """Height and width of an image as the network sees it at each scale, and of its label map."""
    multiple = config.size_multiple

    def view(scale: float) -> tf.Tensor:
        resized = augment.keep_ratio(size, *(int(side * scale) for side in config.scale))
        return tf.maximum((resized + multiple // 2) // multiple, 1) * multiple

    label_multiple = 1 if multiple == 1 else _LABEL_MULTIPLE * multiple
    return [*map(view, config.eval_scales), -(-size // label_multiple) * label_multiple]

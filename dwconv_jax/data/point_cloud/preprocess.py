"""What a stored cloud becomes in a batch."""

import tensorflow as tf

from dwconv_jax.data.point_cloud.config import PointCloudConfig


def cloud(points: tf.Tensor, config: PointCloudConfig, seed: tf.Tensor | None = None) -> tf.Tensor:
    """A cloud of `config.cloud_size` points whose third axis points up.

    Args:
      points: float32 `[n, 3]`, n at least 1; the second axis points up.
      config: of the data set.
      seed: int64 `[2]`, shuffles the points (training).

    Returns:
      float32 `[cloud_size, 3]`.
    """
    if config.unit_sphere:
        points -= tf.reduce_mean(points, 0, keepdims=True)
        radius = tf.reduce_max(tf.norm(points, axis=1))
        points = tf.math.divide_no_nan(points, radius)
    points = tf.stack([-points[:, 2], -points[:, 0], points[:, 1]], -1)
    if seed is not None:
        points = tf.random.experimental.stateless_shuffle(points, seed)
    return tf.ensure_shape(_resize(points, config.cloud_size), [config.cloud_size, 3])


def _resize(points: tf.Tensor, size: int) -> tf.Tensor:
    """Some points, evenly spread over their order, or all of them again and again."""
    count, places = tf.shape(points)[0], tf.range(size)
    spread = tf.cast(tf.cast(places, tf.int64) * tf.cast(count, tf.int64) // size, tf.int32)
    return tf.gather(points, tf.where(count > size, spread, places % count))

"""Semantic segmentation: a configured data set as iterators of NumPy batches."""

from collections.abc import Iterator

import tensorflow as tf
from ml_collections import ConfigDict

from dwconv_jax.data.dataset import Batch, Dataset
from dwconv_jax.data.image.content import admit, image_size
from dwconv_jax.data.image.decode import decode, open_image
from dwconv_jax.data.image.normalize import normalize
from dwconv_jax.data.segmentation import augment
from dwconv_jax.data.segmentation.config import CHANNELS, SegmentationConfig
from dwconv_jax.data.segmentation.info import SegmentationInfo
from dwconv_jax.data.segmentation.label_map import IGNORED, decode_label_map, read_label_map
from dwconv_jax.data.segmentation.preprocess import eval_shapes, evaluation_pair
from dwconv_jax.data.segmentation.sources import open_segmentation
from dwconv_jax.data.stream import Example, Source, Split, local_batch_size


def load_segmentation(config: SegmentationConfig | ConfigDict) -> "SegmentationDataset":
    """Opens a data set; mistakes in the configuration or the files show here.

    A tfds data set that needs no download is prepared on the spot; others must be prepared already.

    Args:
      config: the fields of `SegmentationConfig`.

    Raises:
      UserError: a field of `config` is missing or illegal; the message names it.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    config = SegmentationConfig.from_config(config)
    return SegmentationDataset(config, open_segmentation(config))


class SegmentationDataset(SegmentationInfo, Dataset):
    """Images with a label map each.

    A training batch is {'image': float32 `[b, S, S, 3]`, normalized; 'label': int32 `[b, S, S]`,
    255 for pixels of no class}.
    """

    def __init__(self, config: SegmentationConfig, source: Source) -> None:
        super().__init__(config, source, max_unreadable=config.max_unreadable)

    def eval_batches(
        self, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Iterates once over all examples of the evaluation split.

        A batch holds images of one resized shape, padded with images whose mask is 0. Each process
        gets the same number of batches, of the same shapes.

        Args:
          batch_size: global, over all processes.
          process_index: which share of each batch to return.
          process_count: how many processes share a batch.

        Returns:
          An iterator of {'views': for each of `eval_scales`, float32 `[b, H, W, 3]`, resized and
          normalized; 'label': int32 `[b, H', W']` in the original size, 255 for pixels of no class
          and for padding; 'size': int32 `[b, 2]`, the original size; 'mask': float32 `[b]`, 0 for
          padding}.

        Raises:
          UserError: as for `train_batches`.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        split = self._source.eval

        def one_shape(key: tf.Tensor, window: tf.data.Dataset) -> tf.data.Dataset:
            filling = window.take(1).repeat().map(lambda e: {**e, "mask": tf.zeros([])})
            batch = window.map(lambda e: {**e, "mask": tf.ones([])}).concatenate(filling)
            return batch.take(batch_size).skip(process_index * share).take(share)

        def key(example: Example) -> tf.Tensor:
            encoded = admit(split.read(example)[0], self._config.max_pixels)
            return _shape_key(eval_shapes(image_size(encoded), self._config))

        def load(example: Example) -> Example:
            entry = evaluation_pair(*self._decode(split, example), self._config)
            labels = tf.where(example["mask"] > 0, entry["label"], IGNORED)
            return {**entry, "label": labels, "mask": example["mask"]}

        def batches_from(step: int) -> tf.data.Dataset:
            examples = split.examples.group_by_window(key, one_shape, window_size=batch_size)
            pairs = examples.map(load, tf.data.AUTOTUNE, deterministic=True)
            return pairs.batch(share, drop_remainder=True).skip(step)

        return self._to_host(
            batches_from,
            split,
            # An image that cannot be read has no shape, and so no place among the batches.
            lambda _: split.examples,
            needs_all=True,
        )

    def _decode(self, split: Split, example: Example) -> tuple[tf.Tensor, tf.Tensor]:
        """Image and label map of an example; a TensorFlow error if their sizes differ."""
        config, (encoded_image, encoded_labels) = self._config, split.read(example)
        image = decode(admit(encoded_image, config.max_pixels), CHANNELS)
        labels = decode_label_map(encoded_labels, config.zero_is_ignored, config.max_pixels)
        tf.debugging.assert_equal(tf.shape(image)[:2], tf.shape(labels), "image, label map")
        return tf.cast(image, tf.float32), labels

    def _train_entry(self, split: Split, example: Example, seed: tf.Tensor) -> Example:
        config = self._config
        image, labels = self._decode(split, example)
        resize_seed, crop_seed, flip_seed, color_seed = tf.unstack(tf.random.split(seed, 4))
        pair = augment.random_resize(image, labels, resize_seed, config.scale, config.scale_range)
        pair = augment.random_crop(*pair, crop_seed, config.crop_size, config.max_class_share)
        if config.flip:
            pair = augment.random_flip(*pair, flip_seed)
        image, labels = pair
        if config.photometric:
            image = augment.photometric_distortion(image, color_seed)
        image, labels = augment.pad(normalize(image, config), labels, config.crop_size)
        return {"image": image, "label": tf.cast(labels, tf.int32)}

    def _has_legal_labels(self, batch: Batch) -> bool:
        labels = batch["label"]
        return not ((labels >= self.num_classes) & (labels != IGNORED)).any()

    def _complaint(self, split: Split, example: Example) -> str | None:
        config, (encoded_image, encoded_labels) = self._config, split.read(example)
        image = open_image(encoded_image, CHANNELS, config.max_pixels)
        labels = read_label_map(encoded_labels.numpy(), config.max_pixels)
        if image.shape[:2] != labels.shape:
            return (
                f"the image is {image.shape[0]} x {image.shape[1]} and the label map "
                f"{labels.shape[0]} x {labels.shape[1]}; they must have the same size"
            )
        shift = int(config.zero_is_ignored)
        if (illegal := labels[(labels >= self.num_classes + shift) & (labels != IGNORED)]).size:
            return (
                f"label {illegal.max()}; legal are 0..{self.num_classes - 1 + shift} and "
                f"255, for dataset.num_classes={self.num_classes} and zero_is_ignored={bool(shift)}"
            )
        return None


def _shape_key(shapes: list[tf.Tensor]) -> tf.Tensor:
    """Heights and widths as one int64."""
    sides = tf.strings.reduce_join(tf.strings.as_string(tf.concat(shapes, 0)), separator="x")
    return tf.strings.to_hash_bucket_strong(sides, 2**62, [0, 0])

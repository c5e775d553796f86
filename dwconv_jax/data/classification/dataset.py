"""Image classification: a configured data set as iterators of NumPy batches."""

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from dwconv_jax.data.classification import augment
from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.classification.info import ClassificationInfo
from dwconv_jax.data.classification.preprocess import eval_image
from dwconv_jax.data.classification.sources import open_source
from dwconv_jax.data.dataset import Batch, Dataset
from dwconv_jax.data.image.color_jitter import color_jitter
from dwconv_jax.data.image.content import admit
from dwconv_jax.data.image.decode import open_image
from dwconv_jax.data.image.normalize import normalize
from dwconv_jax.data.image.rand_augment import rand_augment
from dwconv_jax.data.image.random_erasing import random_erasing
from dwconv_jax.data.stream import Example, Source, Split, local_batch_size, padded_batches
from dwconv_jax.data.unreadable import load_entries


def load_classification(config: ClassificationConfig | ConfigDict) -> "ClassificationDataset":
    """Opens a data set; mistakes in the configuration or the files show here.

    A tfds data set that needs no download is prepared on the spot; others must be prepared already.

    Args:
      config: the fields of `ClassificationConfig`.

    Raises:
      UserError: a field of `config` is missing or illegal; the message names it.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    config = ClassificationConfig.from_config(config)
    return ClassificationDataset(config, open_source(config))


class ClassificationDataset(ClassificationInfo, Dataset):
    """Images with one label each.

    A training batch is {'image': float32 `[b, S, S, channels]`, normalized; 'label': int32 `[b]`}.
    """

    def __init__(self, config: ClassificationConfig, source: Source) -> None:
        super().__init__(config, source, max_unreadable=config.max_unreadable)

    def count_labels(self) -> np.ndarray:
        """The number of training examples of each class, int64 `[num_classes]`.

        Reads the whole training split, undecoded.
        """
        labels = self._source.train.examples.map(lambda example: example["label"]).batch(1024)
        counts = np.zeros(self.num_classes, np.int64)
        for batch in labels.as_numpy_iterator():
            legal = batch[(batch >= 0) & (batch < self.num_classes)]
            counts += np.bincount(legal, minlength=self.num_classes)
        return counts

    def balanced_weights(self) -> np.ndarray:
        """Weights that make classes equal, float32 `[num_classes]`; their mean over examples is 1.

        As scikit-learn's `compute_class_weight("balanced", ...)`.
        """
        counts = self.count_labels()
        return (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)

    def eval_batches(
        self, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Iterates once over all readable examples of the evaluation split.

        Each process gets ceil(num_eval / batch_size) batches, padded with zeros.

        Args:
          batch_size: global, over all processes.
          process_index: which share of each batch to return.
          process_count: how many processes share a batch.

        Returns:
          An iterator of {'image': float32 `[b, S, S, channels]`, 'label': int32 `[b]`,
          'mask': float32 `[b]`, 1 for an example, 0 for padding and unreadable examples}.

        Raises:
          UserError: as for `train_batches`.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        split = self._source.eval

        own = split.examples.shard(process_count, process_index)

        def load(example: Example) -> Example:
            encoded = admit(split.read(example), self._config.max_pixels)
            image = eval_image(encoded, self._config, self.channels)
            return {
                "image": image,
                "label": tf.cast(example["label"], tf.int32),
                "mask": tf.ones([]),
            }

        num_batches = math.ceil(self.num_eval / batch_size)

        def batches_from(step: int) -> tf.data.Dataset:
            images = load_entries(split, own.skip(step * share), load)
            return padded_batches(images, share).take(num_batches - step)

        return self._to_host(batches_from, split, lambda step: own.skip(step * share).take(share))

    def _train_entry(self, split: Split, example: Example, seed: tf.Tensor) -> Example:
        config = self._config
        recipe = augment.RECIPES[config.augment]
        encoded = admit(split.read(example), config.max_pixels)
        image = augment.train_image(encoded, seed, recipe, config.image_size, self.channels)
        color_seed, erasing_seed = tf.random.fold_in(seed, 1), tf.random.fold_in(seed, 2)
        if config.rand_augment_magnitude is not None:
            magnitude, std = config.rand_augment_magnitude, config.rand_augment_std
            image = rand_augment(image, color_seed, magnitude, std, config.mean)
        elif config.color_jitter:
            image = color_jitter(image, color_seed, config.color_jitter)
        entry = self._entry(image, example["label"])
        if config.random_erasing:
            erased = random_erasing(entry["image"], erasing_seed, config.random_erasing)
            entry["image"] = erased
        return entry

    def _entry(self, image: tf.Tensor, label: tf.Tensor) -> Example:
        return {"image": normalize(image, self._config), "label": tf.cast(label, tf.int32)}

    def _has_legal_labels(self, batch: Batch) -> bool:
        return bool(((batch["label"] >= 0) & (batch["label"] < self.num_classes)).all())

    def _complaint(self, split: Split, example: Example) -> str | None:
        open_image(split.read(example), self.channels, self._config.max_pixels)
        label = int(example["label"])
        if 0 <= label < self.num_classes:
            return None
        return f"label {label}; legal are 0..{self.num_classes - 1}"

"""Classification of point clouds: a configured data set as iterators of NumPy batches."""

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from dwconv_jax.data.dataset import Batch, Dataset
from dwconv_jax.data.point_cloud.config import PointCloudConfig
from dwconv_jax.data.point_cloud.preprocess import cloud
from dwconv_jax.data.point_cloud.sources import describe_source, open_source
from dwconv_jax.data.stream import Example, Split, local_batch_size, padded_batches


def load_point_clouds(config: PointCloudConfig | ConfigDict) -> "PointCloudDataset":
    """Opens a data set; mistakes in the configuration or the files show here.

    Args:
      config: the fields of `PointCloudConfig`.

    Raises:
      UserError: a field of `config` is missing or illegal, or a file is malformed; the message
        names it.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    config = PointCloudConfig.from_config(config)
    return PointCloudDataset(config, open_source(config))


def describe_point_clouds(config: PointCloudConfig | ConfigDict) -> "PointCloudDataset":
    """A data set without its examples: it knows its classes, size and the shapes of its batches.

    Args:
      config: the fields of `PointCloudConfig`.

    Raises:
      UserError: as for `load_point_clouds`, or `num_train` or `class_names` is needed.
    """
    config = PointCloudConfig.from_config(config)
    return PointCloudDataset(config, describe_source(config))


class PointCloudDataset(Dataset):
    """Point clouds with one label each.

    A training batch is {'points': float32 `[b, cloud_size, 3]`, shuffled, the third axis up;
    'label': int32 `[b]`}.
    """

    def eval_batches(
        self, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Iterates once over the evaluation split.

        Each process gets ceil(num_eval / batch_size) batches, padded with zeros.

        Args:
          batch_size: global, over all processes.
          process_index: which share of each batch to return.
          process_count: how many processes share a batch.

        Returns:
          An iterator of {'points': float32 `[b, cloud_size, 3]`, 'label': int32 `[b]`, 'mask':
          float32 `[b]`, 1 for a cloud, 0 for padding}.

        Raises:
          UserError: as for `train_batches`.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        split = self._source.eval
        own = split.examples.shard(process_count, process_index)

        def load(example: Example) -> Example:
            return {**self._entry(split, example, None), "mask": tf.ones([])}

        num_batches = math.ceil(self.num_eval / batch_size)

        def batches_from(step: int) -> tf.data.Dataset:
            clouds = own.skip(step * share).map(load, tf.data.AUTOTUNE, deterministic=True)
            return padded_batches(clouds, share).take(num_batches - step)

        return self._to_host(batches_from, split, lambda step: own.skip(step * share).take(share))

    def _train_entry(self, split: Split, example: Example, seed: tf.Tensor) -> Example:
        return self._entry(split, example, seed)

    def _entry(self, split: Split, example: Example, seed: tf.Tensor | None) -> Example:
        points = cloud(split.read(example), self._config, seed)
        return {"points": points, "label": tf.cast(example["label"], tf.int32)}

    def _has_legal_labels(self, batch: Batch) -> bool:
        legal = (batch["label"] >= 0) & (batch["label"] < self.num_classes)
        return bool(legal.all() and np.isfinite(batch["points"]).all())

    def _complaint(self, split: Split, example: Example) -> str | None:
        return complaint(split.read(example).numpy(), int(example["label"]), self.num_classes)


def complaint(points: np.ndarray, label: int, num_classes: int) -> str | None:
    """What is wrong with a cloud `[n, 3]` and its label; None if nothing is."""
    if not len(points):
        return "a cloud without points"
    if not np.isfinite(points).all():
        return "a cloud with coordinates that are not finite"
    if not 0 <= label < num_classes:
        return f"label {label}; legal are 0..{num_classes - 1}"
    return None

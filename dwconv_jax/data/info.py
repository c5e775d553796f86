"""What is known of a data set without its examples, and without TensorFlow."""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dwconv_jax.data.config import DatasetConfig
from dwconv_jax.errors import UserError

Batch = dict[str, np.ndarray]


class ArraySpec(NamedTuple):
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: Any


class DatasetInfo(abc.ABC):
    """Classes and size of a data set, and the shapes of its batches.

    Attributes:
      class_names: the classes, in the order of the labels.
      num_classes: how many there are.
      channels: channels of the images as stored, 1 (gray) or 3.
      num_train: number of training examples.
      categories: names of the classes by their ids in annotations; None if there are no ids.
    """

    categories: Mapping[int, str] | None = None

    def __init__(
        self, config: DatasetConfig, class_names: tuple[str, ...], channels: int, num_train: int
    ) -> None:
        self._config: Any = config
        self.class_names = class_names
        self.num_classes = len(class_names)
        self.channels = channels
        self.num_train = num_train

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches in the training split; UserError if there is none."""
        if batch_size > self.num_train:
            raise UserError(
                f"batch_size={batch_size} exceeds the {self.num_train} examples of "
                f"config.dataset.train_split={self._config.train_split!r}"
            )
        return self.num_train // batch_size

    @abc.abstractmethod
    def train_spec(self) -> dict[str, ArraySpec]:
        """Shapes and dtypes of one example's entries in a training batch."""

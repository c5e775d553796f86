"""Multi-label classification: configured CSV lists as iterators of NumPy batches."""

import numpy as np
from ml_collections import ConfigDict

from dwconv_jax.data.classification.csv_list import open_csv
from dwconv_jax.data.classification.dataset import ClassificationDataset
from dwconv_jax.data.image.decode import open_image
from dwconv_jax.data.info import ArraySpec, Batch
from dwconv_jax.data.multilabel.config import MultilabelConfig
from dwconv_jax.data.stream import Example, Split


def load_multilabel(config: MultilabelConfig | ConfigDict) -> "MultilabelDataset":
    """Opens a data set; mistakes in the configuration or the files show here.

    Args:
      config: the fields of `MultilabelConfig`.

    Raises:
      UserError: a field of `config` or a line of a list cannot be used; the message names it.
      FileNotFoundError: a list or an image is missing.
    """
    config = MultilabelConfig.from_config(config)
    return MultilabelDataset(config, open_csv(config, config.label_separator))


class MultilabelDataset(ClassificationDataset):
    """Images with any number of labels each.

    As `ClassificationDataset`, but 'label' is int32 `[b, num_classes]`, 1 for the labels of an
    image and 0 for others.
    """

    def train_spec(self) -> dict[str, ArraySpec]:
        """See `DatasetInfo`."""
        return super().train_spec() | {"label": ArraySpec((self.num_classes,), np.int32)}

    def count_labels(self) -> np.ndarray:
        """The number of training examples with each label, int64 `[num_classes]`."""
        labels = self._source.train.examples.map(lambda example: example["label"]).batch(1024)
        return np.sum([batch.sum(0, np.int64) for batch in labels.as_numpy_iterator()], axis=0)

    def balanced_weights(self) -> np.ndarray:
        """The examples without a label for each that has it, float32 `[num_classes]`."""
        counts = self.count_labels()
        return ((self.num_train - counts) / np.maximum(counts, 1)).astype(np.float32)

    def _has_legal_labels(self, batch: Batch) -> bool:
        return True  # checked when the lists were read

    def _complaint(self, split: Split, example: Example) -> str | None:
        open_image(split.read(example), self.channels, self._config.max_pixels)
        return None

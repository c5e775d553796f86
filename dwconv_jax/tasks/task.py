"""What every task of the training loop has: its data, its model, its loss and its metrics."""

import abc
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from clu import metrics as clu_metrics
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.data.dataset import Batch, Dataset
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.drawing import contact_sheet
from dwconv_jax.models import create_model

# How many training examples a contact sheet shows.
SHEET_SIZE = 64


class Prediction(NamedTuple):
    """What a model says of one picture; `output` is one row of what `Task.evaluate` predicts."""

    path: epath.Path
    batch: Batch
    output: Any


class Task(abc.ABC):
    """A task on a data set.

    Attributes:
        best_metric: which metric decides which checkpoint is the best; the higher the better.
        num_classes: of the data.
        class_names: their names, in the order of the labels.
        num_train: number of training examples.
        steps_per_epoch: whole batches in them.
    """

    best_metric: str

    def __init__(self, config: ConfigDict, dataset: Dataset):
        """Raises a ValueError if the training examples do not fill a batch."""
        self._config = config
        self._dataset = dataset
        self.num_classes = dataset.num_classes
        self.class_names = dataset.class_names
        self.num_train = dataset.num_train
        self.steps_per_epoch = dataset.steps_per_epoch(config.batch_size)

    def create_model(self, rngs: nnx.Rngs) -> nnx.Module:
        """The model that `config.model` describes, for this data's channels and classes."""
        arguments = self._config.model.to_dict()
        return create_model(
            arguments.pop("name"),
            num_classes=self.num_classes,
            in_channels=self._dataset.channels,
            rngs=rngs,
            **arguments,
        )

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a global training batch."""
        return {
            name: jax.ShapeDtypeStruct(
                (self._config.batch_size, *spec.shape), spec.dtype.as_numpy_dtype
            )
            for name, spec in self._dataset.train_spec().items()
        }

    def train_batches(self, start_step: int) -> Iterator[Batch]:
        """This process' share of every global batch, from a step on."""
        return self._dataset.train_batches(
            self._config.batch_size,
            seed=self._config.seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def eval_batches(self) -> Iterator[Batch]:
        """This process' share of the evaluation data, padded and masked."""
        return self._dataset.eval_batches(
            self._config.eval_batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    @abc.abstractmethod
    def loss(
        self, model: Any, batch: dict[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The mean loss over a batch in training mode, and scalars to log."""

    @abc.abstractmethod
    def evaluate(
        self, model: Any, batch: dict[str, Any]
    ) -> tuple[clu_metrics.Collection | clu_metrics.Metric, Any]:
        """What metrics need of the unmasked examples of a batch, and predictions for all of them.

        Predictions are an array, or a dictionary of arrays, with a row an example. A metric by
        itself, in place of a collection, computes a dictionary of numbers.
        """

    def draw_training(self, batch: Batch) -> np.ndarray:
        """A contact sheet of training images as the network sees them, uint8 `[H, W, 3]`."""
        return contact_sheet(
            [to_pixels(image, self._config.dataset) for image in batch["image"][:SHEET_SIZE]]
        )

    def draw(self, batch: Batch, predictions: Any) -> list[np.ndarray]:
        """Pictures, uint8 `[H, W, 3]`, of what was predicted for an evaluation batch.

        None by default: not every prediction is something to look at.
        """
        return []

    def picture(self, path: epath.Path) -> Batch:
        """An evaluation batch of one picture file; ValueError that names it if it is none."""
        return self._dataset.picture(str(path))

    @abc.abstractmethod
    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes what was predicted for pictures into a folder that exists."""

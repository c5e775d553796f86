"""What every task of the training loop has: data, model, loss, prediction and metrics."""

import abc
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import jax
import numpy as np
from clu import metrics as clu_metrics
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.data.image.formats import SUFFIXES
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.data.info import Batch, DatasetInfo
from dwconv_jax.drawing import tile
from dwconv_jax.models import create_model
from dwconv_jax.tasks.description import DataDescription
from dwconv_jax.tasks.summary import Summary

if TYPE_CHECKING:  # it imports TensorFlow, without which tasks are described
    from dwconv_jax.data.dataset import Dataset

# Training examples on a contact sheet.
SHEET_SIZE = 64

DeviceBatch = dict[str, Any]
LossAndMetrics = tuple[jax.Array, dict[str, jax.Array]]
Metrics: TypeAlias = clu_metrics.Collection | clu_metrics.Metric


class Prediction(NamedTuple):
    """What a model predicts for one picture, or another input in a file.

    Attributes:
      name: of the input: its path below the folder of inputs, such as "cats/1.jpg".
      output_name: begins the names of files about this input alone, such as "cats/1".
      path: of the input.
      batch: what `Task.read_picture` returns.
      output: one row of what `Task.predict` returns.
    """

    name: str
    output_name: str
    path: epath.Path
    batch: Batch
    output: Any


class Mistake(NamedTuple):
    """A wrong prediction.

    Attributes:
      row: of the example in its batch.
      score: the probability of what is wrong.
      truth: the classes of the example.
      prediction: those that the model found.
    """

    row: int
    score: float
    truth: str
    prediction: str


class Task(abc.ABC):
    """A task on a data set.

    Attributes:
      best_metric: the metric that decides which checkpoint is the best; higher is better.
      input_kind: what a file for `read_picture` holds.
      suffixes: of the names of such files, in lower case.
      description: classes and channels of the data.
      num_classes: the number of classes.
      class_names: their names, in the order of the labels.
      thresholds: the probability from which on a prediction counts each class as present, for tasks
        with any number of labels an image; None for others.
    """

    thresholds: tuple[float, ...] | None = None
    best_metric: str
    input_kind = "picture"
    suffixes: tuple[str, ...] = SUFFIXES

    def __init__(
        self, config: ConfigDict, description: DataDescription, dataset: DatasetInfo | None = None
    ):
        """Creates a task; without `dataset` it only predicts."""
        self._config = config
        self._dataset: Any = dataset
        self.description = description
        self.num_classes = description.num_classes
        self.class_names = description.class_names

    @classmethod
    def open(cls, config: ConfigDict) -> Self:
        """Opens the data.

        Raises:
          UserError: if the config or the data cannot be used, or do not fill a batch.
          FileNotFoundError: if the data is missing.
        """
        cls.check_config(config)
        return cls._on(config, cls.load_data(config.dataset))

    @classmethod
    def describe(cls, config: ConfigDict) -> Self:
        """Describes the data, which need not be there; the task has no batches.

        Raises:
          UserError: if the config cannot be used.
        """
        cls.check_config(config)
        return cls._on(config, cls.describe_data(config.dataset))

    @staticmethod
    @abc.abstractmethod
    def load_data(dataset: ConfigDict) -> "Dataset":
        """Opens the data set of `config.dataset`."""

    @staticmethod
    @abc.abstractmethod
    def describe_data(dataset: ConfigDict) -> DatasetInfo:
        """Describes that data set without reading it."""

    @classmethod
    def _on(cls, config: ConfigDict, dataset: DatasetInfo) -> Self:
        dataset.steps_per_epoch(config.batch_size)  # raises if the data does not fill a batch
        return cls(config, DataDescription.of(dataset), dataset)

    @staticmethod  # noqa: B027 (most tasks take every config)
    def check_config(config: ConfigDict) -> None:
        """Raises a UserError for a config that this task cannot train with."""

    @property
    def dataset(self) -> "Dataset":
        """The data set of a task that trains or evaluates; of `describe`, a `DatasetInfo`."""
        assert self._dataset is not None, "this task only predicts"
        return self._dataset

    @property
    def num_train(self) -> int:
        """The number of training examples."""
        return self.dataset.num_train

    @property
    def steps_per_epoch(self) -> int:
        """The number of whole batches among the training examples."""
        return self.dataset.steps_per_epoch(self._config.batch_size)

    @property
    def eval_batch_size(self) -> int:
        """`config.eval_batch_size`, at most the evaluation split rounded up to the devices."""
        devices = jax.device_count()
        whole_split = math.ceil(self.dataset.num_eval / devices) * devices
        return min(self._config.eval_batch_size, whole_split)

    def create_model(self, rngs: nnx.Rngs) -> nnx.Module:
        """Creates the model of `config.model` for the channels and classes of the data."""
        arguments = self._config.model.to_dict()
        return create_model(
            arguments.pop("name"),
            num_classes=self.num_classes,
            in_channels=self.description.channels,
            rngs=rngs,
            **arguments,
        )

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a global training batch."""
        return {
            name: jax.ShapeDtypeStruct((self._config.batch_size, *spec.shape), spec.dtype)
            for name, spec in self.dataset.train_spec().items()
        }

    def train_batches(self, start_step: int) -> Iterator[Batch]:
        """Yields this process's share of every global batch, starting at a step."""
        return self.dataset.train_batches(
            self._config.batch_size,
            seed=self._config.seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def eval_batches(self) -> Iterator[Batch]:
        """Yields this process's share of the evaluation data, padded and masked."""
        return self.dataset.eval_batches(
            self.eval_batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    @abc.abstractmethod
    def read_picture(self, path: epath.Path) -> Batch:
        """Reads a file as a batch of one picture, preprocessed as for evaluation.

        Raises:
          UserError: if the file holds no picture, or whatever `input_kind` says; the message names
            it.
        """

    @abc.abstractmethod
    def loss(self, model: Any, batch: DeviceBatch, rngs: nnx.Rngs) -> LossAndMetrics:
        """Returns the mean loss over a batch in training mode, and scalars to log."""

    @abc.abstractmethod
    def predict(self, model: Any, batch: DeviceBatch) -> Any:
        """Runs the model on a batch of `eval_batches` or `read_picture`, labels aside.

        Returns:
          An array, or a dictionary of arrays, with one row per image.
        """

    @abc.abstractmethod
    def evaluate(self, model: Any, batch: DeviceBatch) -> tuple[Metrics, Any]:
        """Returns the metrics of the unmasked examples of a batch, and what `predict` returns.

        A metric that is not part of a collection computes a dictionary of numbers.
        """

    def summarize(self, metrics: Metrics) -> Summary:
        """Returns what the merged metrics of a whole split say."""
        return Summary({name: float(value) for name, value in metrics.compute().items()})

    def use_evaluation(self, summary: Summary) -> None:  # noqa: B027 (most tasks need nothing)
        """Takes over what predictions need of an evaluation of their model.

        Args:
          summary: of the evaluation; without classes if it is not known.
        """

    def draw_training(self, batch: Batch) -> np.ndarray:
        """Draws training images as the network sees them: a contact sheet, uint8 `[H, W, 3]`."""
        return tile(
            [to_pixels(image, self._config.dataset) for image in batch["image"][:SHEET_SIZE]]
        )

    def draw(self, batch: Batch, predictions: Any) -> list[np.ndarray]:
        """Draws the predictions for an evaluation batch: pictures, uint8 `[H, W, 3]`.

        Returns no pictures by default.
        """
        return []

    def find_mistakes(self, batch: Batch, predictions: Any) -> list[Mistake]:
        """Finds the wrong predictions for an evaluation batch.

        Returns none by default: most tasks do not tell right from wrong by image.
        """
        return []

    @abc.abstractmethod
    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes the predictions for pictures into an existing folder."""

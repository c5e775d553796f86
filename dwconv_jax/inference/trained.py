"""The trained model of a workdir, ready to predict."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.data.dataset import Batch
from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path
from dwconv_jax.hub.card import CardInfo
from dwconv_jax.hub.save import save_pretrained
from dwconv_jax.models.classifier import Classifier
from dwconv_jax.models.recipe import Preprocessing
from dwconv_jax.tasks.registry import create_task, restore_task
from dwconv_jax.tasks.summary import Summary
from dwconv_jax.tasks.task import Task
from dwconv_jax.training.description import config_of_run, read_data_description, read_evaluation
from dwconv_jax.training.restore import restore_model


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model with its trained weights, on the default device.

    Attributes:
      config: of the run.
      task: predicts and names what is predicted; it may not have opened its data.
      model: takes batches through `task.predict`.
      step: of the checkpoint; 0 for the weights of `config.init_from`.
      workdir: of the run.
    """

    config: ConfigDict
    task: Task
    model: Any
    step: int
    workdir: epath.Path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the labels."""
        return self.task.class_names

    def read_picture(self, path: str | os.PathLike[str]) -> Batch:
        """Reads a picture, or a point cloud, as a batch of one, preprocessed as for evaluation.

        Raises:
          UserError: if the file does not hold what the model takes.
        """
        return self.task.read_picture(absolute_path(path, "path"))

    @functools.cached_property
    def evaluation(self) -> Summary:
        """What the run's evaluation of this checkpoint said; see `read_evaluation`."""
        return read_evaluation(self.workdir, self.step)

    def card_info(self, **fields: Any) -> CardInfo:
        """What a model card tells: the data set, and the evaluation of this checkpoint.

        Args:
          **fields: of `CardInfo`, such as `license="mit"`, in place of what the run says.
        """
        summary = self.evaluation
        known = dict(
            dataset=self.config.dataset.name,
            metrics=summary.metrics,
            classes=summary.classes,
            confusion_matrix=summary.confusion_matrix,
        )
        return CardInfo(**(known | fields))

    def save_pretrained(self, folder: str | os.PathLike[str], info: CardInfo | None = None) -> None:
        """Writes the model for the Hugging Face hub; see `hub.save_pretrained`.

        Args:
          folder: to write to; created.
          info: what the card tells; None for `card_info()`.
        """
        save_pretrained(self.model, folder, info or self.card_info())

    def predict(self, batch: Batch) -> Any:
        """Returns what `Task.predict` does: for classification, logits `[B, classes]`."""
        return self._predict(batch)

    @functools.cached_property
    def _predict(self) -> Callable[[Batch], Any]:
        graph, state = nnx.split(self.model)
        program = jax.jit(
            lambda state, batch: self.task.predict(nnx.merge(graph, state, copy=True), batch)
        )
        return lambda batch: program(state, batch)


def load_trained(
    workdir: str, checkpoint: str = "latest", config: ConfigDict | None = None
) -> TrainedModel:
    """Loads the model of a run from its workdir alone: no data set, no optimizer state.

    Only a workdir that holds no description of its data needs the data: that of an older version,
    or one without a run, where `config.init_from` names the weights.

    Args:
      workdir: of the run.
      checkpoint: "latest" or "best".
      config: of the run, to override operational fields; by default the one in the workdir.

    Raises:
      UserError: if `config` is not the one of the run, or `evaluation.json` of a multi-label run is
        damaged.
      FileNotFoundError: if the workdir holds no run, or not that checkpoint.
      CheckpointError: if no checkpoint is intact.
    """
    path = absolute_path(workdir, "--workdir")
    config = config_of_run(path, config)
    task = _restore_task(config, path)
    model, step = restore_model(task, config, path, checkpoint)
    model.class_names = task.class_names
    if isinstance(model, Classifier):
        model.preprocessing = _preprocessing(config.dataset, model.in_channels)
    trained = TrainedModel(config, task, model, step, path)
    if task.thresholds is not None:
        task.use_evaluation(trained.evaluation)
        model.thresholds = task.thresholds
    return trained


def _preprocessing(dataset: ConfigDict, channels: int) -> Preprocessing:
    """That of `data.classification.preprocess`."""
    resized = dataset.eval_resize
    mean, std = (
        tuple(numbers) * (channels // len(numbers)) for numbers in (dataset.mean, dataset.std)
    )
    return Preprocessing(
        image_size=(dataset.image_size,) * 2,
        mean=mean,
        std=std,
        crop_pct=1.0 if resized is None else dataset.image_size / resized,
        crop_mode="squash" if resized is None else "center",
    )


def _restore_task(config: ConfigDict, workdir: epath.Path) -> Task:
    description = read_data_description(workdir)
    if description is not None:
        return restore_task(config, description)
    try:
        return create_task(config)
    except (UserError, OSError) as error:
        raise UserError(
            f"{workdir} does not describe its data, so that the data set itself is needed: "
            f"{error}; or resume the run once where its data is, which writes the description"
        ) from error

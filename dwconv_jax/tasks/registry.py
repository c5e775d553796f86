"""The tasks that `config.task` can name, each imported when it is named."""

import importlib

from ml_collections import ConfigDict

from dwconv_jax.ops.checks import check_choice
from dwconv_jax.tasks.description import DataDescription
from dwconv_jax.tasks.task import Task

# Classes of `dwconv_jax.tasks.<name>.task`.
_CLASSES = {
    "classification": "Classification",
    "detection": "Detection",
    "multilabel": "Multilabel",
    "point_cloud": "PointCloudClassification",
    "segmentation": "Segmentation",
}


def create_task(config: ConfigDict) -> Task:
    """Creates the task that `config.task` names and opens its data.

    Raises:
      UserError: if `config.task` is unknown, or `config` or the data cannot be used.
      FileNotFoundError: if the data is missing.
    """
    return _task_class(config).open(config)


def describe_task(config: ConfigDict) -> Task:
    """Creates a task that knows the shapes of its batches but does not read its data.

    Raises:
      UserError: as `create_task`, or if `config.dataset` must say more about data that is missing.
    """
    return _task_class(config).describe(config)


def restore_task(config: ConfigDict, description: DataDescription) -> Task:
    """Creates a task that only predicts: it needs no data set, and has no batches."""
    return _task_class(config)(config, description)


def _task_class(config: ConfigDict) -> type[Task]:
    check_choice("config.task", config.task, tuple(_CLASSES))
    module = importlib.import_module(f"dwconv_jax.tasks.{config.task}.task")
    task: type[Task] = getattr(module, _CLASSES[config.task])
    return task

"""What differs between the tasks of the one training loop: loss, metrics, model and data."""

from collections.abc import Callable

from ml_collections import ConfigDict

from dwconv_jax.ops.checks import check_choice
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.tasks.detection.task import Detection
from dwconv_jax.tasks.segmentation.task import Segmentation
from dwconv_jax.tasks.task import Task

TASKS: dict[str, Callable[..., Task]] = {
    "classification": Classification,
    "detection": Detection,
    "segmentation": Segmentation,
}


def create_task(config: ConfigDict, *, described: bool = False) -> Task:
    """The task that `config.task` names; ValueError that lists the known ones otherwise.

    Args:
      config: see `dwconv_jax.training.base_config`.
      described: does without the examples, which need not be there: nothing can be read.
    """
    check_choice("config.task", config.task, tuple(TASKS))
    return TASKS[config.task](config, described=described)

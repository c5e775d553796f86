"""The model of a run, for those who only predict: parameters without optimizer state."""

from typing import Any

from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.convert.checkpoints import load_weights, read_arrays
from dwconv_jax.tasks.task import Task
from dwconv_jax.training.checkpoint import find_checkpoint, has_checkpoint
from dwconv_jax.training.initialize import load_initial_weights
from dwconv_jax.training.logs import log


def restore_model(
    task: Task, config: ConfigDict, workdir: epath.Path, checkpoint: str = "latest"
) -> tuple[Any, int]:
    """Restores a model on the default device, with averaged weights if the run keeps them.

    Args:
      task: of the run.
      config: of the run.
      workdir: of the run.
      checkpoint: "latest" or "best". A workdir without checkpoints gives `config.init_from`.

    Returns:
      The model and the step of its checkpoint, 0 without one.

    Raises:
      FileNotFoundError: if the workdir has no such checkpoint and `config.init_from` is None.
      CheckpointError: if no checkpoint is intact.
      UserError: if the weights do not fit the model.
    """
    if not has_checkpoint(workdir) and config.init_from is not None:
        model = task.create_model(nnx.Rngs(config.seed))
        load_initial_weights(model, config.init_from, strict=True)
        return model, 0
    path = find_checkpoint(workdir, checkpoint, best_metric=task.best_metric)
    log.info(f"using the {checkpoint} checkpoint of {workdir}, step {path.name}")
    model = nnx.eval_shape(lambda: task.create_model(nnx.Rngs(config.seed)))
    return load_weights(model, read_arrays(path)), int(path.name)

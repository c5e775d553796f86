"""A run: its task, model, optimizer and mesh, put together and restored."""

import dataclasses
import functools
from typing import Any

import jax
import optax
from etils import epath
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path
from dwconv_jax.models import add_lora
from dwconv_jax.tasks.registry import create_task
from dwconv_jax.tasks.task import Task
from dwconv_jax.training.checkpoint import Checkpoints, abstract, has_checkpoint
from dwconv_jax.training.config import total_steps
from dwconv_jax.training.description import config_of_run
from dwconv_jax.training.initialize import find_initial_weights, load_initial_weights
from dwconv_jax.training.intervals import Intervals
from dwconv_jax.training.logs import log
from dwconv_jax.training.mesh import make_mesh, state_sharding
from dwconv_jax.training.optimizer.adamw import make_optimizer
from dwconv_jax.training.optimizer.freezing import freeze
from dwconv_jax.training.optimizer.schedules import Schedule, learning_rate_schedule
from dwconv_jax.training.state import ModelDef, TrainState
from dwconv_jax.training.step import make_train_step


class NonFiniteError(UserError):
    """A loss, metric or gradient norm that is not a finite number."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What training and evaluation share, built and checked before any compilation."""

    config: ConfigDict
    workdir: epath.Path
    task: Task
    mesh: Mesh
    model: ModelDef
    optimizer: optax.GradientTransformation
    schedule: Schedule
    abstract_state: TrainState

    @property
    def num_steps(self) -> int:
        """The number of steps of the whole run."""
        return total_steps(self.config, self.task.steps_per_epoch)

    @functools.cached_property
    def intervals(self) -> Intervals:
        """How often the run logs, evaluates and saves."""
        return Intervals.of(self.config, self.task.steps_per_epoch)

    @property
    def shardings(self) -> TrainState:
        """The sharding of each array of the state."""
        return jax.tree.map(lambda array: array.sharding, self.abstract_state)

    def checkpoints(self, *, read_only: bool = False) -> Checkpoints:
        """Opens the checkpoints of the workdir."""
        return Checkpoints(
            self.workdir,
            keep=self.config.keep_checkpoints,
            best_metric=self.task.best_metric,
            read_only=read_only,
        )

    def train_step(self) -> jax.stages.Wrapped:
        """Returns the jitted step, which donates the memory of the state that it is given."""
        step = make_train_step(
            self.task,
            self.model,
            self.optimizer,
            self.schedule,
            seed=self.config.seed,
            accumulation_steps=self.config.accumulation_steps,
            ema_decay=self.config.ema_decay,
        )
        return jax.jit(step, donate_argnums=0, out_shardings=(self.shardings, None))

    def initial_state(self, *, strict: bool = False) -> TrainState:
        """Creates the state at step 0 on the mesh, with the weights of `config.init_from` if given.

        Args:
          strict: refuses weights with another head or other windows instead of adapting them.
        """

        def state_of(model: Any) -> TrainState:
            return TrainState.create(
                adapt(model, self.config),
                self.optimizer,
                trained=self.model.trained,
                averages=self.config.ema_decay is not None,
            )

        if self.config.init_from is not None:
            model = self.task.create_model(nnx.Rngs(self.config.seed))
            load_initial_weights(model, self.config.init_from, strict=strict)
            return jax.device_put(state_of(model), self.shardings)
        # The key is an argument, so that runs of every seed share one program.
        create = jax.jit(
            lambda key: state_of(self.task.create_model(nnx.Rngs(key))),
            out_shardings=self.shardings,
        )
        return create(jax.random.key(self.config.seed))

    def restore_state(self, checkpoint: str = "latest") -> TrainState:
        """Restores the state to evaluate.

        Args:
          checkpoint: "latest" or "best". A workdir without checkpoints gives `config.init_from`.

        Raises:
          FileNotFoundError: if the workdir has no such checkpoint and `config.init_from` is None.
          CheckpointError: if no checkpoint is intact, or the best one is damaged.
        """
        if not has_checkpoint(self.workdir):
            if self.config.init_from is None:
                raise FileNotFoundError(
                    f"{self.workdir} has no checkpoint: train there first, or name weights with "
                    "config.init_from"
                )
            log.info(f"using {self.config.init_from}")
            return self.initial_state(strict=True)
        with self.checkpoints(read_only=True) as checkpoints:
            step = checkpoints.find(checkpoint)
            log.info(f"using the {checkpoint} checkpoint of {self.workdir}, step {step}")
            return checkpoints.restore(step, self.abstract_state)


def prepare(config: ConfigDict | None, workdir: str) -> Run:
    """Checks a config, opens its data and describes its model, compiling nothing.

    Args:
      config: of the run; None for the one in the workdir.
      workdir: where the run lives.

    Raises:
      UserError: if the config, the data or the workdir cannot be used; it names what to change.
      FileNotFoundError: if data or weights are missing.
    """
    path = absolute_path(workdir, "--workdir")
    config = config_of_run(path, config)
    if config.init_from is not None:
        find_initial_weights(config.init_from)
    mesh = make_mesh(config.mesh)
    check_batch_sizes(config, mesh)
    return assemble(config, path, mesh, create_task(config))


def check_batch_sizes(config: ConfigDict, mesh: Mesh) -> None:
    """Raises a UserError unless every device gets the same number of examples."""
    for field in ("batch_size", "eval_batch_size"):
        micro_batches = config.accumulation_steps if field == "batch_size" else 1
        if config[field] % (mesh.size * micro_batches):
            raise UserError(
                f"config.{field}={config[field]} must be a multiple of the {mesh.size} devices"
                + (f" times accumulation_steps={micro_batches}" if micro_batches > 1 else "")
            )


def adapt(model: Any, config: ConfigDict) -> Any:
    """Adds the low-rank products of `config.lora_rank` to a model, if there are any; returns it."""
    if config.lora_rank is not None:
        key = jax.random.fold_in(jax.random.key(config.seed), 1)  # not that of the model
        add_lora(model, config.lora_rank, config.lora_layers, rngs=nnx.Rngs(key))
    return model


def assemble(config: ConfigDict, workdir: epath.Path, mesh: Mesh, task: Task) -> Run:
    """Describes the model and the optimizer of a run, and where their arrays live.

    Args:
      config: checked by `validate`.
      workdir: where the run lives.
      mesh: of devices, which may be abstract.
      task: of `config`.

    Raises:
      UserError: if the model or the optimizer cannot be built; it names the field.
    """
    schedule = learning_rate_schedule(config, task.steps_per_epoch)
    model = nnx.eval_shape(lambda: adapt(task.create_model(nnx.Rngs(config.seed)), config))
    trained = freeze(model, config.train_only)
    optimizer = make_optimizer(config, schedule, model, trained)
    averages = config.ema_decay is not None
    graph, arrays = nnx.split(model)
    state = jax.eval_shape(
        lambda arrays: TrainState.create(
            nnx.merge(graph, arrays), optimizer, trained=trained, averages=averages
        ),
        arrays,
    )
    abstract_state = abstract(state, state_sharding(mesh, state))
    return Run(
        config, workdir, task, mesh, ModelDef(model, trained), optimizer, schedule, abstract_state
    )

"""Compiles the training step of a config for devices that need not exist."""

import dataclasses
import math
import time
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.aot.collectives import Collective, collectives
from dwconv_jax.aot.hlo import Program
from dwconv_jax.aot.operations import Operations, count_operations
from dwconv_jax.aot.topologies import abstract_devices, compiler_options
from dwconv_jax.aot.traffic import memory_traffic
from dwconv_jax.tasks.registry import describe_task
from dwconv_jax.training.config import validate
from dwconv_jax.training.mesh import batch_sharding, make_mesh
from dwconv_jax.training.run import Run, assemble, check_batch_sizes


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of a device.

    Attributes:
      parameters: batch statistics and moving averages included.
      optimizer: the optimizer's state.
      batch: the device's examples.
      temporaries: activations, gradients and everything else that lives only during a step.
      program: its instructions.
      total: all of it, in the layout of the program, which may pad.
    """

    parameters: int
    optimizer: int
    batch: int
    temporaries: int
    program: int
    total: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a step costs each device: memory, memory traffic and network."""

    memory: Memory
    traffic: int
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A training step, compiled.

    Attributes:
      run: of the step, on abstract devices.
      topology: the name of the devices.
      operations: of all devices together, before optimization.
      seconds: of tracing and compiling.
      text: of the optimized program; empty if the compiler refused.
      cost: None if the compiler refused.
      refusal: why it refused: the program needs more memory than a device has.
    """

    run: Run
    topology: str
    operations: Operations
    seconds: float
    text: str = dataclasses.field(default="", repr=False)
    cost: Cost | None = None
    refusal: str | None = None


def compile_step(config: ConfigDict, topology: str) -> CompiledStep:
    """Compiles the step that `loop.train` would run on a topology, without devices or data.

    Args:
      config: of the run.
      topology: see `abstract_devices`.

    Raises:
      UserError: if the config or the topology is illegal; it names what to change.
      MissingPackageError: if the compiler for the topology is not installed.
    """
    validate(config)
    mesh = make_mesh(config.mesh, abstract_devices(topology))
    check_batch_sizes(config, mesh)
    run = assemble(config, epath.Path(), mesh, describe_task(config))
    batch = {
        name: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=batch_sharding(mesh))
        for name, shape in run.task.batch_shapes().items()
    }
    started = time.perf_counter()
    with jax.set_mesh(mesh):
        traced = run.train_step().trace(run.abstract_state, batch)
        operations = count_operations(traced.jaxpr.jaxpr)
        try:
            compiled = traced.lower().compile(compiler_options(topology))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            seconds, refusal = time.perf_counter() - started, str(error).splitlines()[0]
            return CompiledStep(run, topology, operations, seconds, refusal=refusal)
    seconds, text = time.perf_counter() - started, compiled.as_text()
    program = Program(text)
    cost = Cost(
        _memory(run, batch, compiled.memory_analysis()),
        memory_traffic(program),
        tuple(collectives(program, mesh.size)),
    )
    return CompiledStep(run, topology, operations, seconds, text, cost)


def _memory(run: Run, batch: Any, stats: Any) -> Memory:
    state, program = run.abstract_state, stats.generated_code_size_in_bytes
    arrays = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return Memory(
        parameters=_bytes_of_a_device((state.params, state.batch_stats, state.ema)),
        optimizer=_bytes_of_a_device(state.opt_state),
        batch=_bytes_of_a_device(batch),
        temporaries=stats.temp_size_in_bytes,
        program=program,
        total=arrays + stats.temp_size_in_bytes + program,
    )


def _bytes_of_a_device(arrays: Any) -> int:
    return sum(
        math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
        for array in jax.tree.leaves(arrays)
    )

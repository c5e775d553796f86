"""One cell of a study: a training run for each seed, and its result."""

import json
import math
import statistics
import time
from typing import Any

import jax
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.files import write_atomically
from dwconv_jax.models import multiply_adds
from dwconv_jax.study.grid import cell_config
from dwconv_jax.tasks.registry import create_task
from dwconv_jax.training import loop
from dwconv_jax.training.description import check_same_config
from dwconv_jax.training.jsonl import read_jsonl
from dwconv_jax.training.logs import log

Result = dict[str, Any]


def run_cell(study: ConfigDict, workdir: epath.Path, cell: int) -> None:
    """Trains a cell with every seed that has not finished, one after another.

    Raises:
      UserError: if the cell does not exist, its config is illegal, or the workdir holds another
        study.
    """
    for seed in study.seeds:
        config = cell_config(study, cell, seed)
        directory = run_directory(study, workdir, cell, seed)
        if read_result(config, directory) is None:
            log.info(f"cell {cell}, {study.cells[cell][0]}, seed {seed}")
            _train(config, directory)


def run_directory(study: ConfigDict, workdir: epath.Path, cell: int, seed: int) -> epath.Path:
    """Returns the workdir of one training run."""
    return workdir / study.cells[cell][0] / f"seed_{seed}"


def read_result(config: ConfigDict, directory: epath.Path) -> Result | None:
    """Reads the result of a finished run; None if it is not finished.

    Raises:
      UserError: if it is the result of another config; the message names what differs.
    """
    path = directory / "result.json"
    if not path.exists():
        return None
    check_same_config(config, directory, held="the result")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it to finish the run anew") from error


def _train(config: ConfigDict, directory: epath.Path) -> None:
    started = time.perf_counter()
    metrics = loop.train(config, str(directory))
    task = create_task(config)
    model: Any = nnx.eval_shape(lambda: task.create_model(nnx.Rngs(config.seed)))
    params = jax.tree.leaves(nnx.state(model, nnx.Param))
    result = dict(
        accuracy=metrics["accuracy"],
        loss=metrics["loss"],
        parameters=sum(math.prod(p.shape) for p in params),
        multiply_adds=multiply_adds(model, config.dataset.image_size, task.description.channels),
        step_ms=_step_ms(config, directory),
        wall_seconds=time.perf_counter() - started,
        device=jax.devices()[0].device_kind,
        device_count=jax.device_count(),
    )
    # A cell is finished when this file is there.
    write_atomically(directory / "result.json", json.dumps(result, indent=1) + "\n")


def _step_ms(config: ConfigDict, directory: epath.Path) -> float:
    """Returns the median of what the run logged, without the first entry, which compiles."""
    speeds = [e["images_per_second"] for e in read_jsonl(directory) if e["split"] == "train"]
    return 1000 * config.batch_size / statistics.median(speeds[1:] or speeds)

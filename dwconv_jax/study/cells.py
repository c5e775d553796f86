"""One cell of a study: a training run for each seed, and what came out of it."""

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
from dwconv_jax.tasks import create_task
from dwconv_jax.training import loop
from dwconv_jax.training.config import differences
from dwconv_jax.training.logs import log
from dwconv_jax.training.writers import read_jsonl

Result = dict[str, Any]


def run_cell(study: ConfigDict, workdir: epath.Path, cell: int) -> None:
    """Trains a cell with every seed that has not finished, one after another.

    Raises:
      ValueError: for a cell that is not there, a config that cannot be, or a workdir that holds
        another study.
    """
    for seed in study.seeds:
        config = cell_config(study, cell, seed)
        directory = run_directory(study, workdir, cell, seed)
        if read_result(config, directory) is None:
            log.info(f"cell {cell}, {study.cells[cell][0]}, seed {seed}")
            _train(config, directory)


def run_directory(study: ConfigDict, workdir: epath.Path, cell: int, seed: int) -> epath.Path:
    """The workdir of one training run."""
    return workdir / study.cells[cell][0] / f"seed_{seed}"


def read_result(config: ConfigDict, directory: epath.Path) -> Result | None:
    """What a finished run left, None of one that is not finished.

    Raises:
      ValueError: if it is the result of another config; it says what differs.
    """
    path = directory / "result.json"
    if not path.exists():
        return None
    old = json.loads((directory / "config.json").read_text())
    changed = differences(old, json.loads(config.to_json_best_effort()))
    if changed:
        raise UserError(
            f"{directory} holds the result of another config; use another --workdir, or the same "
            "config:\n  " + "\n  ".join(changed)
        )
    return json.loads(path.read_text())


def _train(config: ConfigDict, directory: epath.Path) -> None:
    started = time.perf_counter()
    metrics = loop.train(config, str(directory))
    task = create_task(config)
    model = nnx.eval_shape(lambda: task.create_model(nnx.Rngs(config.seed)))
    params = jax.tree.leaves(nnx.state(model, nnx.Param))
    result = dict(
        accuracy=metrics["accuracy"],
        loss=metrics["loss"],
        parameters=sum(math.prod(p.shape) for p in params),
        multiply_adds=multiply_adds(model, config.dataset.image_size, model.in_channels),
        step_ms=_step_ms(config, directory),
        wall_seconds=time.perf_counter() - started,
        device=jax.devices()[0].device_kind,
        device_count=jax.device_count(),
    )
    # A cell is finished when this file is there.
    write_atomically(directory / "result.json", json.dumps(result, indent=1) + "\n")


def _step_ms(config: ConfigDict, directory: epath.Path) -> float:
    """Median over what the run logged; its first entry holds the compilation."""
    speeds = [e["images_per_second"] for e in read_jsonl(directory) if e["split"] == "train"]
    return 1000 * config.batch_size / statistics.median(speeds[1:] or speeds)

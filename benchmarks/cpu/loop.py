"""The cost of the training loop and of checkpoints: `python -m benchmarks.cpu.loop`.

Runs configs/digits.py by `loop.train` itself, and its jitted step alone.
"""

import argparse
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from benchmarks.output import print_cells, print_header
from benchmarks.report import machine
from dwconv_jax.data.dataset import Batch
from dwconv_jax.host_memory import reuse_host_memory
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.training import loop
from dwconv_jax.training.checkpoint import Checkpoints
from dwconv_jax.training.jsonl import read_jsonl
from dwconv_jax.training.mesh import to_devices

STEPS_OF_A_LAP = 110  # how often configs/digits.py logs, evaluates and saves
_LAPS = 6


def digits_config(*, saves: bool) -> ConfigDict:
    """A short run that evaluates only at its end; with `saves` it saves after every lap."""
    from configs import digits

    config = digits.get_config()
    config.num_steps = _LAPS * STEPS_OF_A_LAP
    config.eval_every_steps = config.num_steps
    config.checkpoint_every_steps = STEPS_OF_A_LAP if saves else config.num_steps
    return config


def steps_alone(workdir: str) -> list[float]:
    """Milliseconds of a step on a batch that stays on the device, one value per lap."""
    run = loop.prepare(digits_config(saves=False), workdir)
    with jax.set_mesh(run.mesh):
        step, state = run.train_step(), run.initial_state()
        batch = to_devices(next(run.task.train_batches(0)), run.mesh)
        laps = []
        for _ in range(_LAPS):
            start = time.perf_counter()
            for _ in range(STEPS_OF_A_LAP):
                state, _ = step(state, batch)
            jax.block_until_ready(state)
            laps.append(1e3 * (time.perf_counter() - start) / STEPS_OF_A_LAP)
    return laps[1:]  # the first compiles


def steps_in_the_loop(workdir: str, *, saves: bool) -> list[float]:
    """Milliseconds of a step from the loop's own log, which excludes the time in `save`."""
    config = digits_config(saves=saves)
    loop.train(config, workdir)
    entries = [e for e in read_jsonl(epath.Path(workdir)) if e["split"] == "train"]
    return [1e3 * config.batch_size / e["images_per_second"] for e in entries][1:]


@contextlib.contextmanager
def batches_at_hand() -> Iterator[None]:
    """Gives the loop the same batch again and again, which costs nothing."""
    make_batches = Classification.train_batches

    def repeated(task: Classification, start_step: int) -> Iterator[Batch]:
        return itertools.repeat(next(make_batches(task, start_step)))

    with mock.patch.object(Classification, "train_batches", repeated):
        yield


@contextlib.contextmanager
def timed_saves(*, to_the_end: bool) -> Iterator[list[float]]:
    """Collects milliseconds of every save, until it returns or `to_the_end` of writing."""
    milliseconds: list[float] = []
    save = Checkpoints.save

    def timed(self: Checkpoints, *arguments: object) -> None:
        start = time.perf_counter()
        save(self, *arguments)
        if to_the_end:
            self.wait()
        milliseconds.append(1e3 * (time.perf_counter() - start))

    with mock.patch.object(Checkpoints, "save", timed):
        yield milliseconds


def measure(root: Path, rounds: int) -> dict[str, list[float]]:
    """Measures everything in turn, `rounds` times."""
    times: dict[str, list[float]] = {
        name: [] for name in ("alone", "loop", "fed", "saving", "blocked", "written")
    }
    for i in range(rounds):
        times["alone"] += steps_alone(str(root / f"{i}_alone"))
        with batches_at_hand():
            times["loop"] += steps_in_the_loop(str(root / f"{i}_loop"), saves=False)
        times["fed"] += steps_in_the_loop(str(root / f"{i}_fed"), saves=False)
        with timed_saves(to_the_end=False) as blocked:
            times["saving"] += steps_in_the_loop(str(root / f"{i}_saving"), saves=True)
        with timed_saves(to_the_end=True) as written:
            steps_in_the_loop(str(root / f"{i}_written"), saves=True)
        times["blocked"] += blocked
        times["written"] += written
    return times


def print_table(times: dict[str, list[float]]) -> None:
    """Prints medians, quartiles, and the medians relative to a step by itself."""
    rows = {
        "a step by itself": "alone",
        "a step in the loop, logging included, its batch at hand": "loop",
        "the same with its input, which takes its share of the processors": "fed",
        f"the same while a checkpoint is written, one every {STEPS_OF_A_LAP} steps": "saving",
        "a save holds up the loop": "blocked",
        "a save takes until its files are written": "written",
    }
    alone = np.median(times["alone"])
    print_header("", "ms", "quartiles", "of a step by itself")
    for what, name in rows.items():
        low, middle, high = np.quantile(times[name], (0.25, 0.5, 0.75))
        print_cells(what, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{middle / alone:.1%}")


def main(options: argparse.Namespace) -> None:
    """Measures on the cores that this process may use."""
    reuse_host_memory()
    cores = len(os.sched_getaffinity(0))
    facts = machine(cores, None)
    print("## The loop on digits\n\n" + ", ".join(f"{k} {v}" for k, v in facts.items()) + "\n")
    with tempfile.TemporaryDirectory() as root:
        jax.config.update("jax_compilation_cache_dir", f"{root}/compiled")
        print_table(measure(Path(root), options.rounds))


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    return options.parse_args()


if __name__ == "__main__":
    main(_options())

"""Real runs of `main.py` in processes of their own, and what they leave in their workdir."""

import json
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

from orbax.checkpoint import v1 as ocp

REPOSITORY = Path(__file__).parents[2]
NUM_STEPS = 12  # of tiny.py


def start(data_dir, workdir, *arguments, devices=1):
    command = [
        sys.executable, "main.py", "--config=tests/training/tiny.py", f"--workdir={workdir}",
        f"--config.dataset.data_dir={data_dir}", *arguments,
    ]  # fmt: skip
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        # Programs are compiled once for all runs; their bits are the same.
        "JAX_COMPILATION_CACHE_DIR": f"{data_dir}/compiled",
        "JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=900)
    assert process.returncode == code, output
    return output


def wait_for_step(process, workdir, step):
    """Returns once a run has logged a step."""
    while not any(e["step"] >= step for e in entries(workdir)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def join(count, data_dir, workdir, *arguments):
    """Starts one run in several processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"--coordinator=localhost:{free.getsockname()[1]}"
    return [
        start(
            data_dir,
            workdir,
            address,
            f"--num_processes={count}",
            f"--process_id={i}",
            *arguments,
        )
        for i in range(count)
    ]


def entries(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def without_speed(workdir):
    return [{k: v for k, v in e.items() if k != "images_per_second"} for e in entries(workdir)]


def evaluations(workdir):
    return {e["step"]: e for e in entries(workdir) if e["split"] == "eval"}


def final_state(workdir, step=NUM_STEPS):
    with warnings.catch_warnings(), ocp.training.Checkpointer(workdir / "checkpoints") as reader:
        warnings.filterwarnings("ignore", message="Sharding info not provided")
        return reader.load(step)

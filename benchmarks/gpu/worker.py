"""Runs the cases of one stage and sends what they measure to `supervise`, as JSON lines."""

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.stages import SHARES
from benchmarks.gpu.stages.case import Case, Settings
from benchmarks.gpu.supervise import LOST_GPU, NO_GPU
from dwconv_jax.ops.lowerings.gpu import emulation

_LONGEST_ERROR = 1000  # characters

Send = Callable[[dict[str, Any]], None]


def run_cases(cases: Sequence[Case], first: int, send: Send) -> None:
    """Runs the cases from index `first`; an exception becomes a row.

    Raises:
      SystemExit: with status `LOST_GPU` if the device does not survive an exception.
    """
    for index, case in enumerate(cases[first:], start=first):
        send({"begin": index, "case": case.name, "seconds": case.seconds})
        try:
            for row in case.run():
                send({"row": row})
        except Exception as error:
            message = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
            send({"row": {"error": message}})
            if not _device_works():
                sys.exit(LOST_GPU)
    send({"end": True})


def _device_works() -> bool:
    """Whether the device still computes: after an illegal access, for one, it never does again."""
    try:
        return float(jnp.ones(()) + 1) == 2
    except Exception:
        return False


def main(options: argparse.Namespace) -> None:
    """Runs a stage from its case `--first` on."""
    # Prints, also those of libraries, go to stderr, away from the messages.
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=messages, flush=True)

    # The peer needs memory of the same GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.dry_run:
        jax.config.update("jax_platforms", "cpu")
    backend = jax.default_backend()
    if backend != "gpu" and not options.dry_run:
        print(f"no GPU here, only {backend!r}; --dry-run runs on any machine", file=sys.stderr)
        sys.exit(NO_GPU)
    if options.first == 0:
        send({"row": {"device": jax.devices()[0].device_kind, "jax": jax.__version__}})
    settings = Settings(options.dry_run, options.torch_python)
    stage = importlib.import_module(f"benchmarks.gpu.stages.{options.stage}")
    emulated = options.dry_run and emulation.is_available()
    with emulation.emulated_kernels() if emulated else contextlib.nullcontext():
        run_cases(stage.cases(settings), options.first, send)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=SHARES)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--torch-python", default=sys.executable)
    return parser


if __name__ == "__main__":
    main(_parser().parse_args())

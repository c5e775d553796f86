"""Trains, evaluates, predicts and compiles.

    python main.py --config=configs/digits.py --workdir=runs/digits
    python main.py --mode=eval --workdir=runs/digits
    python main.py --mode=predict --workdir=runs/digits --images=DIR --out=DIR
    python main.py --mode=compile --config=configs/digits.py --topology=v5e:16x16

Flags override fields of the config, such as --config.batch_size=256.
"""

# ruff: noqa: E402

import signal

# Until a run has taken a step there is nothing to save: Ctrl-C ends imports and compilation at
# once. Python's own handler would be lost inside callbacks of JAX.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from dwconv_jax.command_line import shown_errors
from dwconv_jax.flags import parse_flags
from dwconv_jax.training.host_memory import reuse_host_memory

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of configs/, with a variant after a colon where it takes one. --mode=eval and predict "
    "read the config of the workdir without it.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and logs of the run live.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict", "compile"], "What to do.")
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "latest", ["latest", "best"], "Which checkpoint --mode=eval and predict read."
)
_IMAGES = flags.DEFINE_string("images", None, "A folder of pictures, for --mode=predict.")
_OUT = flags.DEFINE_string("out", None, "Where --mode=predict writes.")
_TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "What --mode=compile compiles for, without hardware, data or workdir: v5e:16x16, v4:2x2x2, "
    "v5p:2x2x1, v6e:4x4, h100:8, cpu:8, ...",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Joins several processes: 'auto' on Cloud TPU pods and SLURM, or HOST:PORT of the first one "
    "together with --num_processes and --process_id.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "See --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "See --coordinator.")


@flags.multi_flags_validator(["mode", "config"], "--mode=train and compile need --config")
def _has_a_config(values: dict[str, Any]) -> bool:
    return values["config"] is not None or values["mode"] in ("eval", "predict")


@flags.multi_flags_validator(
    ["mode", "workdir", "topology"],
    "--mode=compile needs --topology; the other modes need --workdir, and no --topology",
)
def _has_a_place(values: dict[str, str | None]) -> bool:
    if values["mode"] == "compile":
        return values["topology"] is not None
    return values["workdir"] is not None and values["topology"] is None


@flags.multi_flags_validator(["mode", "images", "out"], "--mode=predict needs --images and --out")
def _says_what_to_predict(values: dict[str, str | None]) -> bool:
    return values["mode"] != "predict" or None not in (values["images"], values["out"])


def main(argv: list[str]) -> None:
    """Runs the chosen mode."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    reuse_host_memory()
    if _COORDINATOR.value == "auto":
        jax.distributed.initialize()
    elif _COORDINATOR.value is not None:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    with shown_errors():
        _compile() if _MODE.value == "compile" else _run()


def _run() -> None:
    # TensorFlow takes seconds to import: not before the flags are parsed.
    from dwconv_jax.inference.predict import predict
    from dwconv_jax.training import logs, loop

    logs.set_up()
    if _MODE.value == "train":
        loop.train(_CONFIG.value, _WORKDIR.value)
    elif _MODE.value == "predict":
        predict(_WORKDIR.value, _IMAGES.value, _OUT.value, _CHECKPOINT.value, _CONFIG.value)
    else:
        loop.evaluate(_CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)


def _compile() -> None:
    from dwconv_jax.aot.compile import compile_step
    from dwconv_jax.aot.report import report

    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_platforms", "cpu")  # leaves the accelerators of this machine alone
    print(report(compile_step(_CONFIG.value, _TOPOLOGY.value)))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)

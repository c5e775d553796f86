"""Trains, evaluates, predicts and compiles: `dwconv-jax`, in a checkout without installing it.

    python main.py --config=configs/digits.py --workdir=runs/digits
    python main.py --mode=eval --workdir=runs/digits
    python main.py --mode=predict --workdir=runs/digits --images=DIR --out=DIR
    python main.py --mode=compile --config=configs/digits.py --topology=v5e:16x16

Flags override fields of the config, such as --config.batch_size=256. `dwconv-jax eval --help` lists
the flags of a mode.
"""

# ruff: noqa: E402

import signal

# Ctrl-C ends imports at once; a handler of Python would be lost inside callbacks of JAX.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from dwconv_jax.cli.main import main
from dwconv_jax.command_line import ArgumentParser

if __name__ == "__main__":
    parser = ArgumentParser("python main.py", __doc__)
    parser.add_argument("--mode", choices=["train", "eval", "predict", "compile"], default="train")
    options, arguments = parser.parse_known_args()
    main([options.mode, *arguments])

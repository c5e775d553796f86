"""`dwconv-jax compile`."""

from collections.abc import Sequence

from dwconv_jax.cli.config import ConfigArgumentParser
from dwconv_jax.command_line import shown_errors


def main(arguments: Sequence[str]) -> None:
    """Compiles a training step and prints what it costs."""
    parser = ConfigArgumentParser(
        "dwconv-jax compile",
        "Compiles the training step of a config for devices that need not exist, and prints\n"
        "what it costs there: memory, operations, messages. Needs no data.",
        required=True,
    )
    parser.add_argument(
        "--topology",
        required=True,
        help="the devices: v5e:16x16, v4:2x2x2, v5p:2x2x1, v6e:4x4, h100:8, cpu:8, ...",
    )
    flags = parser.parse_args(arguments)
    import jax
    from absl import logging

    from dwconv_jax.aot.compile import compile_step
    from dwconv_jax.aot.report import report
    from dwconv_jax.host_memory import reuse_host_memory

    reuse_host_memory()
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_platforms", "cpu")  # leaves the accelerators of this machine alone
    with shown_errors():
        print(report(compile_step(flags.config, flags.topology)))

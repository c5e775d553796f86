"""How the processes that train or evaluate together find each other."""

import argparse


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of runs in several processes."""
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--coordinator",
        metavar="auto|HOST:PORT",
        help="joins them: auto on Cloud TPU pods and SLURM, or the address of the first one "
        "together with the two flags below",
    )
    group.add_argument("--num_processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process_id", type=int, metavar="I", help="of this one, from 0")


def start(flags: argparse.Namespace) -> None:
    """Prepares this process, and joins the others if the flags say so; before any use of JAX."""
    import jax

    from dwconv_jax.host_memory import reuse_host_memory

    reuse_host_memory()
    if flags.coordinator == "auto":
        jax.distributed.initialize()
    elif flags.coordinator is not None:
        jax.distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)

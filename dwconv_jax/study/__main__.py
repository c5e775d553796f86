"""Runs a study: dwconv-jax study --config=study_digits --workdir=DIR.

    dwconv-jax study --config=... --workdir=DIR --jobs=2   # all cells, two at a time
    dwconv-jax study --config=... --workdir=DIR --cell=3   # one cell (a SLURM array's)

Finished cells are not run again, so the same command continues a stopped study, or collects the
results of cells that ran elsewhere. Writes `table.csv`, `table.md` and `report.html`.
"""

import argparse
import signal
import sys
from collections.abc import Sequence

from dwconv_jax.cli.config import ConfigArgumentParser
from dwconv_jax.command_line import shown_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one cell, or all of them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = _parse(arguments)
    # TensorFlow takes seconds to import: not before the flags are parsed.
    import jax

    from dwconv_jax.files import absolute_path
    from dwconv_jax.host_memory import reuse_host_memory
    from dwconv_jax.study.cells import run_cell
    from dwconv_jax.study.grid import check_study
    from dwconv_jax.study.run import run_all
    from dwconv_jax.training import logs

    logs.set_up()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which `dwconv-jax` has replaced
    study = flags.config
    try:
        with shown_errors():
            check_study(study)
            workdir = absolute_path(flags.workdir, "--workdir")
            if flags.cell is not None:
                # The seeds of a cell share programs that take longer to compile than to run.
                jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
                reuse_host_memory()
                run_cell(study, workdir, flags.cell)
            else:
                command = [sys.executable, "-m", "dwconv_jax.study", *arguments]
                run_all(study, workdir, command, flags.jobs)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to continue")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ConfigArgumentParser(
        "dwconv-jax study",
        "Trains the cells of a study, study_digits for example, and compares them. The same\n"
        "command continues a study, and collects the results of cells that ran elsewhere.",
        required=True,
    )
    parser.add_argument("--workdir", required=True, help="where runs, tables and the page go")
    parser.add_argument("--cell", type=int, metavar="I", help="run this cell alone, from 0")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="how many cells to run side by side"
    )
    flags = parser.parse_args(arguments)
    if flags.jobs < 1:
        parser.error(f"--jobs={flags.jobs} must be positive")
    return flags


if __name__ == "__main__":
    main()

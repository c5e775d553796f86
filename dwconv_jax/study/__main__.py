"""Runs a study: python -m dwconv_jax.study --config=configs/study_digits.py --workdir=DIR.

    python -m dwconv_jax.study --config=... --workdir=DIR --jobs=2   # all cells, two at a time
    python -m dwconv_jax.study --config=... --workdir=DIR --cell=3   # one cell (a SLURM array's)

Finished cells are not run again, so the same command continues a stopped study, or collects the
results of cells that ran elsewhere. Writes `table.csv`, `table.md` and `report.html`.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

from dwconv_jax.command_line import shown_errors
from dwconv_jax.files import absolute_path
from dwconv_jax.flags import parse_flags
from dwconv_jax.training.host_memory import reuse_host_memory

_CONFIG = config_flags.DEFINE_config_file("config", None, "A study_*.py of configs/.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where runs, tables and the page go.", required=True
)
_CELL = flags.DEFINE_integer("cell", None, "Run this cell alone, counted from 0.", lower_bound=0)
_JOBS = flags.DEFINE_integer("jobs", 1, "How many cells to run side by side.", lower_bound=1)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Runs one cell, or all of them."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    # TensorFlow takes seconds to import: not before the flags are parsed.
    import jax

    from dwconv_jax.study.cells import run_cell
    from dwconv_jax.study.grid import check_study
    from dwconv_jax.study.run import run_all
    from dwconv_jax.training import logs

    logs.set_up()
    study = _CONFIG.value
    try:
        with shown_errors():
            check_study(study)
            workdir = absolute_path(_WORKDIR.value, "--workdir")
            if _CELL.value is not None:
                # The seeds of a cell share programs that take longer to compile than to run.
                jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
                reuse_host_memory()
                run_cell(study, workdir, _CELL.value)
            else:
                command = [sys.executable, "-m", "dwconv_jax.study", *sys.argv[1:]]
                run_all(study, workdir, command, _JOBS.value)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to continue")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)

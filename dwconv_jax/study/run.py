"""Runs the cells of a study, each in its own process, and collects their results."""

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.files import write_atomically
from dwconv_jax.study.page import write_study_page
from dwconv_jax.study.table import Row, collect, markdown, write_csv
from dwconv_jax.training.logs import log


def run_all(study: ConfigDict, workdir: epath.Path, command: Sequence[str], jobs: int) -> None:
    """Runs unfinished cells, collects the results of all finished ones, and prints the table.

    Args:
      study: see `study_config`.
      workdir: receives `table.csv`, `table.md`, `report.html` and the output of each cell.
      command: runs one cell when `--cell=i` is appended to it.
      jobs: the number of cells to run side by side.

    Raises:
      UserError: naming the cells that failed, after the others have been run and collected; or if
        the workdir holds another study.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    whole = {row.cell for row in collect(study, workdir) if len(row.results) == len(study.seeds)}
    left = [cell for cell, (name, _) in enumerate(study.cells) if name not in whole]
    log.info(f"{len(left)} of {len(study.cells)} cells to run, {jobs} at a time")

    def run(cell: int) -> bool:
        return _run_cell(study, workdir, [*command, f"--cell={cell}"], cell)

    with ThreadPoolExecutor(jobs) as pool:
        succeeded = list(pool.map(run, left))
    rows = collect(study, workdir)
    if rows:
        write_csv(workdir / "table.csv", rows)
        write_atomically(workdir / "table.md", markdown(rows))
        write_study_page(workdir / "report.html", study, rows)
        print(f"{markdown(rows)}\nwrote table.csv, table.md and report.html into {workdir}")
    failed = [study.cells[cell][0] for cell, ok in zip(left, succeeded, strict=True) if not ok]
    if failed:
        raise UserError(
            f"{len(failed)} cells failed: {', '.join(failed)}; see {workdir}/{failed[0]}.log"
        )


def _run_cell(study: ConfigDict, workdir: epath.Path, command: Sequence[str], cell: int) -> bool:
    """Runs a cell in its own process, so that a crash does not affect others; True on success."""
    name = study.cells[cell][0]
    with (workdir / f"{name}.log").open("a") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code:
        log.info(f"cell {cell}, {name}, failed")
        return False
    row = next(row for row in collect(study, workdir) if row.cell == name)
    log.info(f"cell {cell}, {name}: {_describe(row)}")
    return True


def _describe(row: Row) -> str:
    spread = "" if row.spread is None else f", spread {row.spread:.2f}"
    return f"accuracy {row.accuracy:.2f} %{spread}, {len(row.results)} seed(s)"

"""The cells of a study as rows: means and spreads over seeds."""

import csv
import dataclasses
import io
import statistics
from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.files import write_atomically
from dwconv_jax.study.cells import Result, read_result, run_directory
from dwconv_jax.study.grid import cell_config

HEADER = (
    "cell", "accuracy %", "spread", "seeds", "parameters", "multiply-adds", "step ms"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """The results of a cell."""

    cell: str
    results: Sequence[Result]

    @property
    def accuracies(self) -> list[float]:
        """One per seed, in percent."""
        return [100 * result["accuracy"] for result in self.results]

    @property
    def accuracy(self) -> float:
        """Their mean."""
        return statistics.mean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Their sample standard deviation; None for a single seed."""
        return statistics.stdev(self.accuracies) if len(self.results) > 1 else None

    @property
    def step_ms(self) -> float:
        """The median over the seeds."""
        return statistics.median(result["step_ms"] for result in self.results)

    @property
    def parameters(self) -> int:
        """Of the model."""
        return self.results[0]["parameters"]

    @property
    def multiply_adds(self) -> int:
        """For one image."""
        return self.results[0]["multiply_adds"]

    @property
    def columns(self) -> tuple[str, ...]:
        """The cells of a table row, in the order of `HEADER`."""
        return (
            self.cell,
            f"{self.accuracy:.2f}",
            "" if self.spread is None else f"{self.spread:.2f}",
            str(len(self.results)),
            f"{self.parameters:,}",
            f"{self.multiply_adds:,}",
            f"{self.step_ms:.1f}",
        )


def collect(study: ConfigDict, workdir: epath.Path) -> list[Row]:
    """Returns a row for every cell with a finished run, in the order of the study."""
    rows = []
    for cell, (name, _) in enumerate(study.cells):
        found = (
            read_result(cell_config(study, cell, s), run_directory(study, workdir, cell, s))
            for s in study.seeds
        )
        if results := [result for result in found if result is not None]:
            rows.append(Row(name, results))
    return rows


def write_csv(path: epath.Path, rows: Sequence[Row]) -> None:
    """Writes the numbers without rounding, one line per cell."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(
        ["cell", "accuracy", "spread", "seeds", "parameters", "multiply_adds", "step_ms"]
    )
    for row in rows:
        spread = "" if row.spread is None else row.spread
        writer.writerow(
            [
                row.cell, row.accuracy, spread, len(row.results), row.parameters,
                row.multiply_adds, row.step_ms,
            ]
        )  # fmt: skip
    write_atomically(path, table.getvalue())


def markdown(rows: Sequence[Row]) -> str:
    """Formats the table as Markdown."""
    lines = [HEADER, ("---",) * len(HEADER), *(row.columns for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

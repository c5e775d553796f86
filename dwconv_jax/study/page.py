"""A study as one HTML page: its table, its plots, and published results."""

from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.study import published
from dwconv_jax.study.plots import accuracy_against, comparison
from dwconv_jax.study.table import HEADER, Row
from dwconv_jax.visualize.page import Section, write_page


def write_study_page(path: epath.Path, study: ConfigDict, rows: Sequence[Row]) -> None:
    """Writes the page; a question is shown once two of its cells have finished."""
    by_name = {row.cell: row for row in rows}
    sections = [
        Section(
            "All cells",
            "Accuracy is the mean over seeds at the last step, spread its sample standard "
            "deviation. Multiply-adds are of one image, norms and activations aside. A step is the "
            "median over what training logged: cells that ran side by side shared the machine.",
            table=[HEADER, *(row.columns for row in rows)],
        ),
        Section(
            "Accuracy against parameters",
            figures=[accuracy_against(rows, lambda row: row.parameters, "parameters")],
        ),
        Section(
            "Accuracy against time",
            figures=[accuracy_against(rows, lambda row: row.step_ms, "training step, ms")],
        ),
    ]
    for question, names in study.questions:
        found = [by_name[name] for name in names if name in by_name]
        if len(found) > 1:
            sections.append(Section(question, figures=[comparison(found)]))
    title = f"A study of {len(study.cells)} models"
    if study.paper:
        title = "What matters in local attention?"
        sections += _published()
    write_page(path, title, _summary(study, rows), sections)


def _published() -> list[Section]:
    caution = Section(
        "Published",
        "Other data, other sizes and other budgets: nothing above says what these models would "
        "do there. Only numbers whose source could be read are given.",
    )
    tables = published.TABLES.items()
    return [caution, *(Section(f"Published: {where}", table=table) for where, table in tables)]


def _summary(study: ConfigDict, rows: Sequence[Row]) -> str:
    base = study.base
    results = [result for row in rows for result in row.results]
    devices = sorted({f"{r['device_count']} {r['device']}" for r in results})
    hours = sum(r["wall_seconds"] for r in results) / 3600
    budget = f"{base.num_steps} steps" if base.num_steps else f"{base.num_epochs} epochs"
    return (
        f"{len(rows)} of {len(study.cells)} cells on {base.dataset.name}, {len(results)} runs of "
        f"{budget} in batches of {base.batch_size}, on {', '.join(devices)} device(s): "
        f"{hours:.2f} hours of running in all."
    )

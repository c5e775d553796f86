"""The plots of a study can be read, with as many cells as there are."""

from dwconv_jax.study.plots import accuracy_against, comparison
from dwconv_jax.study.table import Row
from tests.study.test_study import result
from tests.visualize.readable import assert_readable

ROWS = [
    Row(
        f"a_cell_of_a_long_name_{i}", [result(0.9, parameters=900 + i, step_ms=i + 1)] * (i % 3 + 1)
    )
    for i in range(18)
]


def test_all_cells_are_told_apart():
    figure = accuracy_against(ROWS, lambda row: row.parameters, "parameters")
    assert_readable(figure)
    assert_readable(accuracy_against(ROWS, lambda row: row.step_ms, "training step, ms"))
    looks = set()
    for container in figure.axes[0].containers:
        line = container.lines[0]
        looks.add((line.get_color(), line.get_marker()))
    assert len(looks) == len(ROWS)


def test_comparisons_show_every_seed():
    figure = comparison(ROWS[:5])
    assert_readable(figure)
    dots = [line for line in figure.axes[0].lines if line.get_alpha() == 0.35]
    assert [len(line.get_xdata()) for line in dots] == [1, 2, 3, 1, 2]

"""The notebook runs from top to bottom, reduced, and is stored without outputs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "dwconv_jax_tpu.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_no_outputs_are_stored(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.filterwarnings("default")  # those of the Jupyter client are not ours
def test_it_runs_from_top_to_bottom(notebook, monkeypatch):
    monkeypatch.setenv("DWCONV_JAX_NOTEBOOK_EPOCHS", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # Most of the time goes to compiling what runs for moments.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 3
    printed = [
        o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "text" in o
    ]
    assert any("done: 22 steps" in text for text in printed)

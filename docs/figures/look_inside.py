"""Draws the figures of guides/look_inside.md: python docs/figures/look_inside.py."""

import re
from pathlib import Path

import matplotlib

FIGURES = Path(__file__).parent
NAMES = {"kernels": "predicted_kernels.png", "maps": "feature_maps.png"}


def main() -> None:
    """Runs the page's Python blocks and saves the figures that they make."""
    matplotlib.use("agg")
    page = (FIGURES.parent / "guides" / "look_inside.md").read_text()
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(block, names)
    for name, file in NAMES.items():
        names[name].savefig(FIGURES / file, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()

"""Renders `$...$` as inline SVG with matplotlib: no network, no LaTeX, any width, any theme."""

import io

from docutils import nodes
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from sphinx.application import Sphinx


def _svg(equation: str, size: float) -> str:
    """The equation as an `<svg>` that takes the color of the text around it."""
    file = io.StringIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "dwconv_jax", "mathtext.fontset": "cm"}):
        math_to_image(f"${equation}$", file, prop=FontProperties(size=size), format="svg")
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    background = svg.index('<g id="patch_1">')
    return svg[:background] + svg[svg.index("</g>", background) + 4 :]


def visit_inline(self, node: nodes.math) -> None:
    """Renders an equation inside a sentence."""
    self.body.append(f'<span class="math">{_svg(node.astext(), 11)}</span>')
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    """Renders an equation on a line of its own."""
    self.body.append(f'<div class="math">{_svg(node.astext().strip(), 15)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer; `html_math_renderer = "mathtext"` chooses it."""
    app.add_html_math_renderer("mathtext", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

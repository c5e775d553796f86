"""Renders `$...$` as inline SVG with matplotlib: no network, no LaTeX, any width, any theme."""

import io

from docutils import nodes
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from sphinx.application import Sphinx


def _svg(equation: str, size: float) -> str:
    """The equation as an `<svg>` on the baseline of the text around it."""
    file = io.StringIO()
    with rc_context(
        {"svg.fonttype": "path", "svg.hashsalt": "dwconv_jax", "mathtext.fontset": "cm"}
    ):
        prop = FontProperties(size=size)
        depth = math_to_image(f"${equation}$", file, prop=prop, dpi=72, format="svg")
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    background = svg.index('<g id="patch_1">')
    svg = svg[:background] + svg[svg.index("</g>", background) + 4 :]
    return svg.replace("<svg", f'<svg style="vertical-align: {-depth:.1f}pt"', 1)


def visit_inline(self, node: nodes.math) -> None:
    """Renders an equation inside a sentence."""
    self.body.append(f'<span class="math">{_svg(node.astext(), 12)}</span>')
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    """Renders an equation on a line of its own."""
    self.body.append(f'<div class="math">{_svg(node.astext().strip(), 16)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer; `html_math_renderer = "mathtext"` chooses it."""
    app.add_html_math_renderer("mathtext", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Figures, pictures, tables and text as one self-contained HTML file."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import jinja2
import numpy as np
from etils import epath
from matplotlib.figure import Figure
from PIL import Image

from dwconv_jax.files import write_atomically

_DOTS_PER_INCH = 110

_TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c1c1c; background: #fff; }
h1, p, figcaption { overflow-wrap: anywhere; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }  /* figures and tables scroll on a phone, and keep their size */
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.5rem; border-bottom: 1px solid #e4e4e4; text-align: left; }
td { overflow-wrap: break-word; max-width: 40rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.cards figure { margin: 0; }
.cards img { width: 100%; }
.small { image-rendering: pixelated; }
figcaption { font-size: 0.85rem; line-height: 1.35; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
{% for section in sections %}
<h2>{{ section.heading }}</h2>
{% if section.text %}
<p>{{ section.text }}</p>
{% endif %}
{% if section.table %}
<div class="wide"><table>
<thead><tr>{% for cell in section.table[0] %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in section.table[1:] %}
<tr>{% for cell in row %}
<td{% if not loop.first and is_number(cell) %} class="number"{% endif %}>{{ cell }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
{% for figure in section.figures %}
<p class="wide"><img src="{{ source(figure) }}" alt="{{ section.heading }}"
 style="min-width: min(40rem, {{ width(figure) }}px)"></p>
{% endfor %}
{% if section.cards %}
<div class="cards">
{% for card in section.cards %}
<figure><img src="{{ source(card.picture) }}" alt="{{ card.lines[0] }}"
{%- if width(card.picture) < 64 %} class="small"{% endif %}>
<figcaption>{% for line in card.lines %}{{ line }}<br>{% endfor %}</figcaption></figure>
{% endfor %}
</div>
{% endif %}
{% endfor %}
</body>
</html>
"""
)

Drawing = Figure | np.ndarray  # pictures are uint8 [H, W, 3]


@dataclasses.dataclass(frozen=True)
class Card:
    """A small picture, uint8 `[H, W, 3]`, and lines of text below it."""

    picture: np.ndarray
    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, and below it text, a table (its first row is the header), figures and cards."""

    heading: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    figures: Sequence[Drawing] = ()
    cards: Sequence[Card] = ()


def write_page(path: epath.Path, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Writes a page; `summary` stands below its title."""
    page = _TEMPLATE.render(
        title=title,
        summary=summary,
        sections=sections,
        is_number=_is_number,
        source=_source,
        width=_width,
    )
    write_atomically(path, page)


def png(drawing: Drawing) -> bytes:
    """Renders a figure or a picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    if isinstance(drawing, Figure):
        drawing.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    else:
        Image.fromarray(drawing).save(buffer, format="PNG")
    return buffer.getvalue()


def _source(drawing: Drawing) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(drawing)).decode()}"


def _width(drawing: Drawing) -> int:
    """In pixels."""
    if isinstance(drawing, Figure):
        return round(drawing.get_figwidth() * _DOTS_PER_INCH)
    return drawing.shape[1]


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit()

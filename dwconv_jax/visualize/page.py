"""Figures, tables and text as one self-contained HTML file."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import jinja2
from etils import epath
from matplotlib.figure import Figure

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
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }  /* figures and tables scroll on a phone, and keep their size */
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #e4e4e4; text-align: left;
         white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
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
<tr>{% for cell in row %}<td{% if is_number(cell) %} class="number"{% endif %}>{{ cell }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
{% for picture, width in section.pictures %}
<p class="wide"><img src="data:image/png;base64,{{ picture }}" alt="{{ section.heading }}"
 style="min-width: min(40rem, {{ width }}px)"></p>
{% endfor %}
{% endfor %}
</body>
</html>
"""
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, and below it text, a table (its first row is the header) and figures."""

    heading: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    figures: Sequence[Figure] = ()

    @property
    def pictures(self) -> list[tuple[str, int]]:
        """The figures as base64 of PNG files, with their widths in pixels."""
        return [
            (base64.b64encode(png(f)).decode(), round(f.get_figwidth() * _DOTS_PER_INCH))
            for f in self.figures
        ]


def write_page(path: epath.Path, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Writes a page; `summary` stands below its title."""
    write_atomically(
        path,
        _TEMPLATE.render(title=title, summary=summary, sections=sections, is_number=_is_number),
    )


def png(figure: Figure) -> bytes:
    """Renders a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit()

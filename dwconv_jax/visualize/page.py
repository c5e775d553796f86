"""Figures, tables and text as one HTML file that needs nothing else."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import jinja2
from etils import epath
from matplotlib.figure import Figure

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
.wide { overflow-x: auto; }
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
{% for picture in section.pictures %}
<p><img src="data:image/png;base64,{{ picture }}" alt="{{ section.heading }}"></p>
{% endfor %}
{% endfor %}
</body>
</html>
"""
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading with what stands below it: text, a table (its head first), figures."""

    heading: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    figures: Sequence[Figure] = ()

    @property
    def pictures(self) -> list[str]:
        """The figures as base64 of PNG files."""
        return [base64.b64encode(png(figure)).decode() for figure in self.figures]


def write_page(path: epath.Path, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Writes the file."""
    path.write_text(
        _TEMPLATE.render(title=title, summary=summary, sections=sections, is_number=_is_number)
    )


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit()

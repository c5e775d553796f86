"""Sphinx directive that lists the named variants of every family, from the registry.

```{model-variants}
```
"""

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from dwconv_jax.models.registry import FAMILIES
from dwconv_jax.models.variant import Variant

HEADER = (
    "| name | parameters | multiply-adds | image | ImageNet top-1 % |\n"
    "|---|--:|--:|--:|--:|\n"
)  # fmt: skip


class ModelVariants(SphinxDirective):
    """A heading for each family, and a table of its variants."""

    def run(self) -> list[nodes.Node]:
        """Renders the tables as Markdown."""
        text = "\n\n".join(map(_table, FAMILIES))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _table(family: Any) -> str:
    title = family.__doc__.splitlines()[0].split(":")[0]
    rows = "\n".join(_row(name, variant) for name, variant in family.VARIANTS.items())
    return f"### {title}\n\n{HEADER}{rows}"


def _row(name: str, variant: Variant) -> str:
    accuracy = "" if variant.accuracy is None else f"{variant.accuracy:.1f}"
    return (
        f"| `{name}` | {variant.num_params:,} | {variant.gmacs:.2f} G | {variant.image_size} "
        f"| {accuracy} |"
    )


def setup(app: Any) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("model-variants", ModelVariants)
    return {"parallel_read_safe": True}

"""Sphinx directive that lists the fields of a configuration class from their declarations.

```{config-fields} dwconv_jax.training.fields.MixConfig
```
"""

import dataclasses
import pydoc
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from dwconv_jax.data.settings import check_of, group_of


class ConfigFields(SphinxDirective):
    """A list of fields, each with its default, meaning and legal values."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Renders the fields as a Markdown list."""
        fields = dataclasses.fields(pydoc.locate(self.arguments[0]))
        text = "\n".join(_entry(field) for field in fields if not group_of(field))
        return self.parse_text_to_nodes(text)


def _entry(field: dataclasses.Field) -> str:
    mark = " †" if field.metadata["operational"] else ""
    legal = check_of(field).words.replace("<", "&lt;")
    return (
        f"- **`{field.name}`**{mark} = `{field.default!r}`<br>\n"
        f"  {field.metadata['doc']} Legal: {legal}."
    )


def setup(app: Any) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("config-fields", ConfigFields)
    return {"parallel_read_safe": True}

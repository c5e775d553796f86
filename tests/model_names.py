"""Writes dwconv_jax/models/names.py from the registry: `make names`, after adding a variant."""

from collections.abc import Sequence
from pathlib import Path

import dwconv_jax.models
from dwconv_jax.models import TASK_VARIANTS, VARIANTS, CascadeMaskRCNN, UPerNet

PATH = Path(dwconv_jax.models.__file__).with_name("names.py")


def text() -> str:
    """What the module holds."""
    names: dict[str, Sequence[str]] = {
        "ClassifierName": [*VARIANTS],
        "UPerNetName": [n for n, v in TASK_VARIANTS.items() if v.model is UPerNet],
        "CascadeMaskRCNNName": [n for n, v in TASK_VARIANTS.items() if v.model is CascadeMaskRCNN],
    }
    parts = [
        '"""The names of the models by what they return, for type checkers: `make names`."""\n\n'
        "from typing import Literal\n\n"
    ]
    for kind, values in names.items():
        rows = "".join(f'    "{name}",\n' for name in values)
        parts.append(f"{kind} = Literal[\n{rows}]\n")
    return "".join(parts)


if __name__ == "__main__":
    PATH.write_text(text())

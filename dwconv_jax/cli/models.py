"""`dwconv-jax models`."""

import fnmatch
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from dwconv_jax.command_line import ArgumentParser
from dwconv_jax.models.registry import ALIASES, TASK_VARIANTS, VARIANTS

_ABOUT = """\
Lists classifiers: exact parameters with 1,000 classes, multiply-adds of one
image of the size, and the published top-1 accuracy on ImageNet-1K.
"""
_EXAMPLES = """\
examples:
  dwconv-jax models swin
  dwconv-jax models '*tiny*'
  dwconv-jax models upernet   # for segmentation; cascade_mask_rcnn for detection
"""


def main(arguments: Sequence[str]) -> None:
    """Prints a table of models."""
    parser = ArgumentParser("dwconv-jax models", _ABOUT, epilog=_EXAMPLES)
    parser.add_argument("pattern", nargs="?", help="the beginning of names, or a pattern")
    pattern = parser.parse_args(arguments).pattern
    names = matching(pattern)
    if not names:
        sys.exit(f"error: no model matches {pattern!r}; dwconv-jax models lists all")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # whole lines for grep
    console.print(_table(names))


def matching(pattern: str | None) -> list[str]:
    """Names of models that match a pattern, by timm's names too; of all classifiers for None."""
    if pattern is None:
        return list(VARIANTS)
    if not any(wildcard in pattern for wildcard in "*?["):
        pattern += "*"
    names = dict.fromkeys([*VARIANTS, *TASK_VARIANTS])
    found = fnmatch.filter([*names, *ALIASES], pattern)
    return list(dict.fromkeys(ALIASES.get(name, name) for name in found))


def _table(names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for title in ("parameters", "multiply-adds", "image", "top-1 %"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("reported by")
    for name in names:
        table.add_row(name, *_known(name))
    return table


def _known(name: str) -> Sequence[str]:
    if name in TASK_VARIANTS:
        count = TASK_VARIANTS[name].num_params
        return ("" if count is None else f"{count:,}",)
    variant = VARIANTS[name]
    size, gmacs = str(variant.image_size), f"{variant.gmacs:.2f} G"
    published = ("", "")
    if variant.accuracy is not None:
        published = f"{variant.accuracy:.1f}", variant.source
    return f"{variant.num_params:,}", gmacs, size, *published

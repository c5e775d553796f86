"""What a stage consists of."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line chose.

    Attributes:
      dry_run: whether to run toy sizes on the CPU.
      torch_python: the interpreter that may have PyTorch.
    """

    dry_run: bool
    torch_python: str


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
      name: what is measured, by which program.
      run: measures; yields cells by the names of their columns.
      seconds: how long it may take to yield the next.
    """

    name: str
    run: Callable[[], Iterator[dict[str, Any]]]
    seconds: float = 60.0

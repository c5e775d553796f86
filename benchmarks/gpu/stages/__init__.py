"""The stages of `benchmarks.gpu.hardware`, in order of worth."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.gpu.stages import ceilings, correctness, digits, models, operators
from benchmarks.gpu.stages.case import Case, Settings


class Stage(NamedTuple):
    """A stage and its share of the time.

    Attributes:
      cases: what it consists of.
      share: of the budget, in parts; what a stage leaves over goes to those after it.
    """

    cases: Callable[[Settings], Sequence[Case]]
    share: float


STAGES = {
    "ceilings": Stage(ceilings.cases, 5),
    "correctness": Stage(correctness.cases, 20),
    "operators": Stage(operators.cases, 35),
    "models": Stage(models.cases, 30),
    "digits": Stage(digits.cases, 10),
}

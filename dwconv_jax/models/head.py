"""Which weights of a model depend on its number of classes."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Head:
    """The layers of a model whose width is the number of classes.

    Attributes:
      names: matches their names, PyTorch's ("head.bias") and ours ("head/bias").
      last_biases: names of a bias whose size is the number of classes.
    """

    names: re.Pattern[str]
    last_biases: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        """Whether a weight of that name belongs to the head."""
        return self.names.match(name) is not None

    def count_classes(self, weights: Mapping[str, np.ndarray]) -> int | None:
        """The number of classes that weights are for, None without a head."""
        sizes = (np.size(weights[name]) for name in self.last_biases if name in weights)
        return next(sizes, None)

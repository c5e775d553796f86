"""The dtype of a computation: that of the layer, or else of its input."""

from typing import Any

import jax.numpy as jnp


def keep_input_dtype(args: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    """Casts the arrays of a Flax layer; `promote_dtype` of layers with `dtype=None`.

    Flax's own function promotes by all arrays, so that float32 parameters turn bfloat16 inputs
    into float32.

    Args:
      args: the input, then the parameters; None stays None.
      dtype: of the computation; None keeps the input's.
      inexact: accepted as Flax passes it; all computations here are floating.
    """
    del inexact
    dtype = jnp.result_type(args[0]) if dtype is None else dtype
    return tuple(None if array is None else jnp.asarray(array, dtype) for array in args)

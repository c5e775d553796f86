"""Models with their batch norms folded, for inference alone."""

from typing import Any, TypeVar

from flax import nnx

ModelT = TypeVar("ModelT", bound=nnx.Module)


def fold_batch_norms(model: ModelT) -> ModelT:
    """A copy of a trained model whose batch norms are part of the weights before or after them.

    The copy computes the same in evaluation and cannot be trained. A norm stays where no weights
    can absorb it: behind a layer whose channels share weights, and on maps with several readers.
    """
    folded = nnx.clone(model)
    modules: list[Any] = [module for _, module in nnx.iter_modules(folded)]
    for module in modules:
        if hasattr(module, "fold_norms"):
            module.fold_norms()
    return folded

"""The weights of a model by name."""

from flax import nnx


def variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """Returns the weights of a model by their path, such as "head/kernel"."""
    return {
        "/".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, (nnx.Param, nnx.BatchStat))
    }

"""Evaluates a task by hand, for comparing batch sizes and devices."""

import jax
from flax import nnx


def totals(task, config):
    """Returns a function of a batch size and a sharding to the metrics of the whole split."""
    graph, state = nnx.split(task.create_model(nnx.Rngs(0)))
    evaluate = jax.jit(lambda state, batch: task.evaluate(nnx.merge(graph, state), batch)[0])

    def total(batch_size, sharding):
        config.eval_batch_size = batch_size
        batches = [jax.device_put(batch, sharding) for batch in task.eval_batches()]
        first, *others = [evaluate(state, batch) for batch in batches]
        for other in others:
            first = first.merge(other)
        return {name: float(value) for name, value in first.compute().items()}

    return total

"""One folder a task: loss, metrics, pictures and prediction.

Imports nothing, so that the losses need only JAX, Flax and Optax; `tasks.registry` has all of them.
"""

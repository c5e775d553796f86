"""A trained model on its evaluation split: its scores, its mistakes, and what it predicts."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from dwconv_jax.data.dataset import Batch
from dwconv_jax.inference.trained import TrainedModel
from dwconv_jax.tasks.registry import create_task
from dwconv_jax.tasks.summary import Summary

_NUM_MISTAKES, _NUM_PICTURES = 24, 6


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An example that is predicted wrongly.

    Attributes:
      score: how sure the model was.
      truth: the classes of the example.
      prediction: those that the model found.
      image: `[H, W, C]`, normalized.
      position: of the example in the evaluation split.
      name: of the example, such as its file.
    """

    score: float
    truth: str
    prediction: str
    image: np.ndarray
    position: int
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model predicts for a whole evaluation split.

    Attributes:
      summary: its metrics and the scores of each class.
      num_examples: of the split.
      batch: a few of the first examples.
      pictures: of the predictions for these, uint8 `[H, W, 3]`, if the task draws any.
      mistakes: the most confident ones, in this order, if the task tells right from wrong.
    """

    summary: Summary
    num_examples: int
    batch: Batch
    pictures: list[np.ndarray]
    mistakes: list[Mistake]


def evaluate(trained: TrainedModel) -> Evaluation:
    """Evaluates a model on the default device.

    Raises:
      UserError: if the evaluation data cannot be used.
      FileNotFoundError: if it is missing.
    """
    task = create_task(trained.config)
    graph, state = nnx.split(trained.model)
    program = jax.jit(lambda state, batch: task.evaluate(nnx.merge(graph, state), batch))
    total: Any = None
    few: Any = None
    mistakes: list[Mistake] = []
    position = 0
    for batch in task.eval_batches():
        metrics, outputs = program(state, batch)
        outputs = jax.tree.map(np.asarray, outputs)
        total = metrics if total is None else total.merge(metrics)
        few = _first(batch, outputs) if few is None else few
        found = [
            Mistake(m.score, m.truth, m.prediction, batch["image"][m.row], position + m.row)
            for m in task.find_mistakes(batch, outputs)
        ]
        mistakes = sorted([*mistakes, *found], key=lambda m: -m.score)[:_NUM_MISTAKES]
        position += len(batch["mask"])
    names = task.dataset.name_eval([m.position for m in mistakes])
    return Evaluation(
        task.summarize(total),
        task.dataset.num_eval,
        few[0],
        task.draw(*few),
        [dataclasses.replace(m, name=names[m.position]) for m in mistakes],
    )


def _first(batch: Batch, outputs: Any) -> tuple[Batch, Any]:
    count = min(_NUM_PICTURES, int(batch["mask"].sum()))
    return jax.tree.map(lambda array: array[:count], (batch, outputs))

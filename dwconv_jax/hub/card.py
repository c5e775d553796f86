"""The model card: what is known exactly, as the hub's `README.md`."""

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from dwconv_jax.errors import MissingPackageError, UserError
from dwconv_jax.models.point_prompt import CloudPreprocessing
from dwconv_jax.models.recipe import Preprocessing
from dwconv_jax.models.registry import find_variant
from dwconv_jax.tasks.summary import class_table
from dwconv_jax.version import __version__

PICTURE_NAME = "confusion_matrix.png"
_TASKS = {
    "Classifier": "image-classification",
    "UPerNet": "image-segmentation",
    "CascadeMaskRCNN": "object-detection",
}
# What `predict` takes.
_EXAMPLES = {"Classifier": "photo.jpg", "PointClassifier": "chair.obj"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardInfo:
    """What a model card tells beyond the model itself.

    Attributes:
      license: its identifier, such as "apache-2.0"; None leaves the field out.
      dataset: what the model was trained on.
      training_command: that trained it.
      metrics: of the evaluation, by name.
      classes: of each class its 'name' and its scores, such as 'precision' and 'recall', as in a
        run's `evaluation.json`.
      confusion_matrix: int `[K, K]`, counts by class (row) and prediction (column) of `classes`.
      base_model: whose weights training started from.
    """

    license: str | None = None
    dataset: str | None = None
    training_command: str | None = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    classes: Sequence[Mapping[str, Any]] = ()
    confusion_matrix: Sequence[Sequence[int]] | None = None
    base_model: str | None = None


def card_text(model: Any, info: CardInfo) -> str:
    """The card of a model that `create_model` built, in Markdown."""
    return "\n".join([*_metadata(model, info), "", *_body(model, info)]) + "\n"


def confusion_picture(info: CardInfo) -> bytes | None:
    """The confusion matrix as a PNG file, if there is one.

    Raises:
      UserError: if it does not fit `info.classes`.
      MissingPackageError: if matplotlib is not installed.
    """
    if info.confusion_matrix is None:
        return None
    matrix, names = info.confusion_matrix, [scores["name"] for scores in info.classes]
    if len(matrix) != len(names):
        raise UserError(
            f"info.confusion_matrix has {len(matrix)} rows, and info.classes {len(names)} entries; "
            "they must agree"
        )
    try:
        from dwconv_jax.visualize import confusion_matrix
    except ImportError as error:
        raise MissingPackageError(
            "drawing a confusion matrix takes pip install 'dwconv-jax[visualize]'"
        ) from error
    file = io.BytesIO()
    confusion_matrix(np.asarray(matrix), names).savefig(file, dpi=150)
    return file.getvalue()


def _metadata(model: Any, info: CardInfo) -> list[str]:
    fields = {
        "license": info.license,
        "library_name": "dwconv_jax",
        "pipeline_tag": _TASKS.get(type(model).__name__),  # the hub has none for point clouds
        "base_model": info.base_model,
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return ["---", *lines, "tags:", "- jax", "- flax", "---"]


def _body(model: Any, info: CardInfo) -> list[str]:
    name = model.recipe.name
    parameters = sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    rows = {"parameters": f"{parameters:,}", "classes": f"{model.num_classes:,}"}
    variant = find_variant(name)[0]
    if not model.recipe.arguments and type(model).__name__ == "Classifier":
        size = variant.image_size
        rows["multiply-adds"] = f"{variant.gmacs} G at {size}x{size} (convolutions and products)"
    match model.preprocessing:
        case Preprocessing() as how:
            rows["input size"] = "x".join(map(str, how.image_size))
            rows["mean, std"] = f"{how.mean}, {how.std}"
        case CloudPreprocessing() as how:
            rows["points, views"] = f"{how.num_points:,}, {how.num_views}"
    rows |= {label: str(value) for label, value in (("trained on", info.dataset),) if value}
    if model.thresholds is not None:
        rows["labels of an image"] = "any number: a sigmoid and a threshold for each class"
    rows |= {name.replace("_", " "): f"{value:.4g}" for name, value in info.metrics.items()}
    facts = _table([("", ""), *rows.items()])
    lines = [f"# {name}", "", *facts, "", "```python", *_usage(model), "```"]
    if info.classes:
        lines += ["", "## Classes", "", *_table(class_table(info.classes))]
    if info.confusion_matrix is not None:
        lines += ["", f"![Confusion matrix: rows are the true classes]({PICTURE_NAME})"]
    if info.training_command is not None:
        lines += ["", "Trained by", "", "```sh", info.training_command, "```"]
    return [*lines, "", f"Written by dwconv_jax {__version__}."]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "&#124;") for cell in row] for row in rows]
    header, *body = (f"| {' | '.join(row)} |" for row in cells)
    return [header, "|" + "---|" * len(rows[0]), *body]


def _usage(model: Any) -> list[str]:
    if type(model).__name__ not in _EXAMPLES:
        return [
            "from dwconv_jax import create_model",
            "",
            'model = create_model(pretrained="OWNER/NAME")',
        ]
    return [
        "from dwconv_jax import create_model, predict",
        "",
        'model = create_model(pretrained="OWNER/NAME")',
        f'predict(model, "{_EXAMPLES[type(model).__name__]}", top=5)',
    ]

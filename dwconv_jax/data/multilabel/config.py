"""The fields of `config.dataset` for multi-label classification."""

import dataclasses

from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.settings import NAME, Legal, is_number, one_of, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilabelConfig(ClassificationConfig):
    """`config.dataset` where `config.task = "multilabel"`."""

    name: str = setting(
        "csv",
        "`csv` for the lists `<data_dir>/<split>.csv` with the columns `file` and `label`, or "
        "`file` and for each class a column of 0 and 1.",
        one_of("csv"),
    )
    label_separator: str = setting(
        ";", "Stands between the labels of an image; an image without labels has none.", NAME
    )
    threshold: float | None = setting(
        None,
        "The probability at which a class counts as present. None: 0.5 in evaluations; in "
        "predictions, for each class, the threshold with the largest F1 in the checkpoint's "
        "evaluation.",
        Legal("in (0, 1)", lambda value: is_number(value) and 0 < value < 1),
        operational=True,
    )

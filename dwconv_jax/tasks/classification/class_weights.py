"""Weights of the classes in the loss, for unbalanced data."""

import numpy as np

from dwconv_jax.data.classification.info import ClassificationInfo
from dwconv_jax.errors import UserError


def class_weights(
    setting: str | tuple[float, ...] | None, dataset: ClassificationInfo
) -> np.ndarray | None:
    """The weights that `config.class_weights` asks for.

    Args:
      setting: "balanced" for `dataset.balanced_weights`, or one number for each class.
      dataset: to train on.

    Returns:
      float32 `[K]`, or None without a setting.

    Raises:
      UserError: there are not as many numbers as classes.
    """
    if setting is None:
        return None
    if setting == "balanced":
        return dataset.balanced_weights()
    if len(setting) != dataset.num_classes:
        raise UserError(
            f"config.class_weights={setting} has {len(setting)} numbers; the data has "
            f"{dataset.num_classes} classes: {', '.join(dataset.class_names[:10])}"
        )
    return np.asarray(setting, np.float32)

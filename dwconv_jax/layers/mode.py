"""Training or evaluation: what a call says, or else what `model.train()` or `model.eval()` said.

Flax tells modules by two attributes: `use_running_average` of norms and `deterministic` of
dropout. A model that was told nothing is in evaluation mode.
"""


def is_training(train: bool | None, evaluating: bool | None) -> bool:
    """Whether to train.

    Args:
      train: what the call says; None follows the mode.
      evaluating: the mode, `use_running_average` or `deterministic` of the module.
    """
    return not evaluating if train is None else train

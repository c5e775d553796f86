"""The configuration of a run: defaults, checks, and what they mean for its length and identity."""

import dataclasses
import json
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dwconv_jax.data.settings import Settings, group_of
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training.fields import DATASETS, RunConfig


def base_config(task: str = "classification") -> ConfigDict:
    """A config with every field of a task at its default; files in `configs/` start from it.

    Raises:
      UserError: there is no such task.
    """
    check_choice("config.task", task, tuple(DATASETS))
    return ConfigDict(_defaults(RunConfig) | {"task": task, "dataset": _defaults(DATASETS[task])})


def _defaults(settings: type[Settings]) -> dict[str, Any]:
    return {field.name: _default(field) for field in dataclasses.fields(settings)}


def _default(field: dataclasses.Field) -> Any:
    if group := group_of(field):
        return _defaults(group)
    if field.default is not None:
        return field.default
    # Only for floats is there a parser (in `cli/config.py`) that knows None; others are parsed as
    # literals.
    return placeholder(float if field.type == float | None else object)


def validate(config: ConfigDict) -> None:
    """Checks names, types and ranges of all fields, and whether they fit each other.

    The arguments of the model are checked where it is created.

    Raises:
      UserError: names the field, the value and what is legal.
    """
    fields = dict(config.items())
    check_choice("config.task", fields.get("task"), tuple(DATASETS))
    if "dataset" in fields:
        fields["dataset"] = DATASETS[config.task].from_config(config.dataset)
    RunConfig.from_config(fields)


def total_steps(config: ConfigDict, steps_per_epoch: int) -> int:
    """The number of steps of the whole run."""
    return config.num_steps or config.num_epochs * steps_per_epoch


def warmup_steps(config: ConfigDict, steps_per_epoch: int) -> int:
    """The number of steps of warm-up."""
    optimizer = config.optimizer
    if optimizer.warmup_steps is not None:
        return optimizer.warmup_steps
    return round(optimizer.warmup_epochs * steps_per_epoch)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What makes two configs different runs.

    Operational fields may differ. A field that a config lacks, because it was written before the
    field existed, has its default.

    Args:
      old: a config, read from JSON.
      new: another one.

    Returns:
      A line for each field that differs.
    """
    task = new.get("task", RunConfig.task)
    defaults = flatten(json.loads(base_config(task).to_json_best_effort()))
    a, b = (defaults | flatten(config) for config in (old, new))
    operational = set().union(*(_operational(RunConfig), *map(_operational, DATASETS.values())))
    return [
        f"{name}: {a.get(name)!r} there, {b.get(name)!r} now"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name) and name not in operational
    ]


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Names each field of nested groups by its path, such as `optimizer.eps`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _operational(settings: type[Settings]) -> set[str]:
    """Paths below `config.` of operational fields."""
    names: set[str] = set()
    for field in dataclasses.fields(settings):
        if group := group_of(field):
            names |= _operational(group)
        elif field.metadata["operational"]:
            names.add(f"{settings.path}.{field.name}".removeprefix("config."))
    return names

"""What a run leaves in its workdir for those who read it: its config, and what its data is like."""

import dataclasses
import json
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.files import read_json, with_tuples, write_atomically
from dwconv_jax.tasks.description import DataDescription
from dwconv_jax.tasks.summary import Summary
from dwconv_jax.training.checkpoint import has_checkpoint
from dwconv_jax.training.config import base_config, differences, validate
from dwconv_jax.training.jsonl import read_jsonl

_CONFIG, _DATA, _EVALUATION = "config.json", "data.json", "evaluation.json"


def write_description(workdir: epath.Path, config: ConfigDict, data: DataDescription) -> None:
    """Writes `config.json` and `data.json` into a workdir."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / _CONFIG, config.to_json_best_effort(indent=2) + "\n")
    write_atomically(workdir / _DATA, json.dumps(dataclasses.asdict(data), indent=2) + "\n")


def read_config(workdir: epath.Path) -> ConfigDict:
    """Reads the config of a run; fields that are newer than the run have their defaults.

    Raises:
      FileNotFoundError: if the workdir holds no run.
      UserError: if the file is damaged, or holds an illegal value.
    """
    path = workdir / _CONFIG
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: --workdir must be that of a run")
    saved = with_tuples(_read_fields(path))
    try:
        config = base_config(saved.get("task"))
        config.update(saved)
        validate(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not the config of a run: {error}") from error
    return config


def read_data_description(workdir: epath.Path) -> DataDescription | None:
    """Reads classes and channels of a run's data; None if an older version left none.

    Raises:
      UserError: if the file is damaged.
    """
    path = workdir / _DATA
    if not path.exists():
        return None
    try:
        return DataDescription.from_json(_read_fields(path))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe the data of a run: {error}") from error


def write_evaluation(workdir: epath.Path, step: int, summary: Summary) -> None:
    """Writes what the newest evaluation says, `evaluation.json`, into a workdir if it exists."""
    if workdir.exists():  # not where an evaluation takes its weights from `config.init_from`
        fields = {"step": step, **dataclasses.asdict(summary)}
        write_atomically(workdir / _EVALUATION, json.dumps(fields) + "\n")


def read_evaluation(workdir: epath.Path, step: int) -> Summary:
    """Reads what the evaluation of a step said: if it is not the newest one, its metrics alone.

    A step that was never evaluated has no metrics either.

    Raises:
      UserError: if the file of the newest evaluation is damaged.
    """
    path = workdir / _EVALUATION
    if path.exists():
        remedy = "evaluate the run again, which writes it anew"
        fields = read_json(path, remedy)
        if fields.pop("step", None) == step:
            try:
                return Summary(**fields)
            except TypeError as error:  # a field is missing or unknown
                legal = ", ".join(field.name for field in dataclasses.fields(Summary))
                raise UserError(
                    f"{path} has the fields {', '.join(fields) or 'none'} beside its step, where "
                    f"those of an evaluation are {legal}; {remedy}"
                ) from error
    found = {}
    for entry in read_jsonl(workdir):
        if (entry["step"], entry["split"]) == (step, "eval"):
            found = entry
    return Summary({name: found[name] for name in found if name not in ("step", "split")})


def config_of_run(workdir: epath.Path, config: ConfigDict | None = None) -> ConfigDict:
    """Returns `config`, checked against the run in the workdir, or the run's own config.

    Raises:
      UserError: if `config` is illegal, or not the one of the run.
      FileNotFoundError: if `config` is None and the workdir holds no run.
    """
    if config is None:
        return read_config(workdir)
    validate(config)
    if has_checkpoint(workdir):
        check_same_config(config, workdir)
    return config


def check_same_config(
    config: ConfigDict, workdir: epath.Path, *, held: str = "checkpoints"
) -> None:
    """Checks that a workdir holds no run, or one of this config; operational fields may differ.

    Args:
      config: of the run to start.
      workdir: of the run.
      held: what the error says that the workdir holds.

    Raises:
      UserError: with one line for each field that differs, or if `config.json` is damaged.
    """
    path = workdir / _CONFIG
    if not path.exists():
        return
    changed = differences(_read_fields(path), json.loads(config.to_json_best_effort()))
    if changed:
        raise UserError(
            f"{workdir} holds {held} of another config; use another workdir, or the same "
            "config:\n  " + "\n  ".join(changed)
        )


def _read_fields(path: epath.Path) -> dict[str, Any]:
    return read_json(
        path, "restore it, or delete it and resume the run with --config, which writes it anew"
    )

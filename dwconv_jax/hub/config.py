"""`config.json` of a pretrained model, in this package's form and in timm's."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dwconv_jax.errors import UserError
from dwconv_jax.files import read_json, with_tuples
from dwconv_jax.models.point_prompt import CloudPreprocessing
from dwconv_jax.models.recipe import Preprocessing
from dwconv_jax.version import __version__

NAME = "config.json"
_LIBRARY = "dwconv_jax"
_FIELDS = ("architecture", "num_classes", "arguments", "pretrained_cfg", "label_names", "sha256")

# timm's arguments of models by our names; None for those that do not change the weights.
_TIMM_ARGUMENTS = {
    "depths": "depths",
    "dims": "embed_dim",
    "drop_path_rate": "drop_path_rate",
    "embed_dim": "embed_dim",
    "embed_dims": "embed_dim",
    "global_pool": None,
    "img_size": None,
    "in_chans": "in_channels",
    "num_classes": "num_classes",
    "num_heads": "num_heads",
    "window_size": "window_size",
}
# The networks of these names here are TensorFlow's, whose padding and epsilon are others.
_OTHER_IN_TIMM = re.compile(r"efficientnet_lite\d")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """What `config.json` says.

    Attributes:
      architecture: name of the model, ours or timm's.
      arguments: of `create_model`.
      preprocessing: None if the file has none, as for tasks other than classification.
      class_names: None if the file has none.
      thresholds: of a multi-label model, the probability from which on each class counts as
        present; None for one label an image.
      sha256: of the weights; None if the file has none, as timm's have not.
    """

    architecture: str
    arguments: Mapping[str, Any]
    preprocessing: Preprocessing | CloudPreprocessing | None
    class_names: tuple[str, ...] | None
    thresholds: tuple[float, ...] | None
    sha256: str | None


def read_config(path: Path) -> PretrainedConfig:
    """Reads `config.json`.

    Raises:
      UserError: naming the file and the field that is missing or wrong.
    """
    fields = read_json(path)
    ours = fields.get("library") == _LIBRARY
    missing = [name for name in (_FIELDS if ours else _FIELDS[:1]) if name not in fields]
    if missing:
        raise UserError(f"{path} lacks the field {missing[0]!r}")
    try:
        return _parse(fields, ours)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} does not describe a model: {error}") from error


def config_fields(model: Any) -> dict[str, Any]:
    """What `config.json` says of a model that `create_model` built, but for `sha256`.

    Raises:
      UserError: if it did not, or for an argument that a file cannot hold.
    """
    if getattr(model, "recipe", None) is None:
        raise UserError("only a model that create_model built can be saved")
    return {
        "library": _LIBRARY,
        "version": __version__,
        "architecture": model.recipe.name,
        "num_classes": model.num_classes,
        "arguments": model.recipe.to_json(),
        "pretrained_cfg": _preprocessing_fields(model.preprocessing),
        "label_names": model.class_names,
        "thresholds": model.thresholds,
    }


def _parse(fields: dict[str, Any], ours: bool) -> PretrainedConfig:
    details = fields.get("pretrained_cfg") or {}
    architecture = fields["architecture"]
    if not isinstance(architecture, str):
        raise UserError(f"architecture must be a string, got {architecture!r}")
    if ours:
        arguments = fields["arguments"]
    else:
        arguments = _timm_arguments(architecture, fields.get("model_args") or {})
    num_classes = fields.get("num_classes", details.get("num_classes"))
    if num_classes is not None:
        arguments = {**arguments, "num_classes": num_classes}
    size = details.get("input_size")
    if size is not None and size[0] != 3 and not ours:
        arguments.setdefault("in_channels", size[0])
    names = fields.get("label_names")
    if isinstance(names, dict):  # by the index of the class
        names = [names[str(i)] for i in range(len(names))]
    # timm's names are WordNet's identifiers, where it has descriptions.
    descriptions = fields.get("label_descriptions") or {}
    names = None if names is None else [descriptions.get(name, name) for name in names]
    if names is not None and len(names) != num_classes:
        raise UserError(f"label_names has {len(names)} names for {num_classes} classes")
    return PretrainedConfig(
        architecture=architecture if ours else architecture.partition(".")[0],
        arguments={name: with_tuples(value) for name, value in arguments.items()},
        preprocessing=_preprocessing(details),
        class_names=None if names is None else tuple(map(str, names)),
        thresholds=_thresholds(fields.get("thresholds"), num_classes),
        sha256=fields.get("sha256"),
    )


def _timm_arguments(architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if _OTHER_IN_TIMM.match(architecture):
        raise UserError(
            f"timm's {architecture!r} differs in padding from the model of that name here, which "
            f"timm calls 'tf_{architecture.partition('.')[0]}'"
        )
    unknown = [name for name in arguments if name not in _TIMM_ARGUMENTS]
    if unknown:
        raise UserError(
            f"model_args has {unknown[0]!r}, which has no counterpart here; legal are "
            f"{', '.join(_TIMM_ARGUMENTS)}"
        )
    if arguments.get("global_pool", "avg") != "avg":
        raise UserError(f"global_pool must be 'avg', got {arguments['global_pool']!r}")
    return {
        ours: arguments[name]
        for name, ours in _TIMM_ARGUMENTS.items()
        if ours and name in arguments
    }


def _thresholds(numbers: Any, num_classes: Any) -> tuple[float, ...] | None:
    if numbers is None:
        return None
    if len(numbers) != num_classes or not all(0 <= number <= 1 for number in numbers):
        raise UserError(
            f"thresholds must be {num_classes} numbers from 0 to 1, one for each class, got "
            f"{numbers}"
        )
    return tuple(map(float, numbers))


def _preprocessing(details: Mapping[str, Any]) -> Preprocessing | CloudPreprocessing | None:
    if "cloud_size" in details:
        return CloudPreprocessing(**details)
    if not details.get("input_size"):
        return None
    default = Preprocessing()
    return Preprocessing(
        image_size=tuple(details["input_size"][1:]),
        mean=tuple(details.get("mean", default.mean)),
        std=tuple(details.get("std", default.std)),
        interpolation=details.get("interpolation", default.interpolation),
        crop_pct=details.get("crop_pct", default.crop_pct),
        crop_mode=details.get("crop_mode", default.crop_mode),
    )


def _preprocessing_fields(
    preprocessing: Preprocessing | CloudPreprocessing | None,
) -> dict[str, Any] | None:
    if preprocessing is None:
        return None
    fields = dataclasses.asdict(preprocessing)
    if isinstance(preprocessing, CloudPreprocessing):
        return fields
    return {"input_size": (len(preprocessing.mean), *fields.pop("image_size")), **fields}

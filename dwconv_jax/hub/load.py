"""Builds a model by its pretrained weights and the config beside them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath
from flax import nnx

from dwconv_jax.convert.checksums import checksum
from dwconv_jax.convert.pretrained import load_pretrained
from dwconv_jax.errors import UserError
from dwconv_jax.hub.config import PretrainedConfig, read_config
from dwconv_jax.hub.source import find_source
from dwconv_jax.models.point_prompt import create_point_classifier
from dwconv_jax.models.registry import VARIANTS, build, find_variant


def create_pretrained(
    name: str | None,
    pretrained: str | os.PathLike[str],
    arguments: Mapping[str, Any],
    rngs: nnx.Rngs | None,
) -> Any:
    """`create_model` with pretrained weights.

    Args:
      name: of the model; None for the one that the config names.
      pretrained: where the weights are; see `create_model`.
      arguments: of `create_model`; they override those of the config.
      rngs: for what is not loaded; None draws it from seed 0.

    Raises:
      UserError: if the weights cannot be found, are damaged or do not fit.
    """
    source = find_source(pretrained)
    strict, rngs = arguments.get("num_classes") is None, rngs or nnx.Rngs(0)
    if source.config is None:
        if name is None:
            raise UserError(
                f"{source.weights} does not say which model it holds; name it as the first "
                "argument of create_model"
            )
        return load_pretrained(build(name, arguments, rngs), source.weights, strict=strict)
    config = read_config(source.config)
    if config.sha256 is not None and checksum(epath.Path(source.weights)) != config.sha256:
        raise UserError(f"{source.weights} is damaged: its SHA-256 is not the one in config.json")
    name = name or config.architecture
    model = _build(name, config, source.config, arguments, rngs)
    load_pretrained(model, source.weights, strict=strict)
    if find_variant(name)[1] is find_variant(config.architecture)[1]:
        if config.preprocessing is not None:
            model.preprocessing = config.preprocessing
        if strict and config.class_names is not None:
            model.class_names = config.class_names
        if strict and config.thresholds is not None:
            model.thresholds = config.thresholds
    return model


def _build(
    name: str,
    config: PretrainedConfig,
    file: Path,
    arguments: Mapping[str, Any],
    rngs: nnx.Rngs,
) -> Any:
    """Builds the model of a config; errors name its file where the mistake is not the caller's."""
    try:
        saved = _arguments_for(name, config)
        if not arguments:
            return _create(name, saved, rngs)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return _create(name, saved | dict(arguments), rngs)


def _create(name: str, arguments: Mapping[str, Any], rngs: nnx.Rngs) -> Any:
    """The named model, or a `PointClassifier` on it if the arguments have a prompt."""
    if "prompt" in arguments:
        return create_point_classifier(name, rngs=rngs, **arguments)
    return build(name, arguments, rngs)


def _arguments_for(name: str, config: PretrainedConfig) -> dict[str, Any]:
    """What the config says of the model, or of the backbone of a model for another task."""
    saved, wanted = find_variant(config.architecture), find_variant(name)
    if saved == wanted:
        return dict(config.arguments)
    if "prompt" in config.arguments:
        raise UserError(f"it holds a classifier of point clouds, not {name!r}")
    if saved[0] is not wanted[0] or config.architecture not in VARIANTS:
        raise UserError(f"its architecture is {config.architecture!r}, not {name!r}")
    return {key: value for key, value in config.arguments.items() if key != "num_classes"}

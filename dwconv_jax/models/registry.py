"""The named models: one table, and how to build one."""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.flags import MixerFlags
from dwconv_jax.models.classifier import Classifier
from dwconv_jax.models.detection.cascade_mask_rcnn import CascadeMaskRCNN
from dwconv_jax.models.families import (
    convnext,
    cswin,
    dwnet,
    efficientnet,
    halonet,
    maxvit,
    mlp,
    nat,
    pvt_v2,
    swin,
    swin_v2,
    uniformer,
)
from dwconv_jax.models.names import CascadeMaskRCNNName, ClassifierName, UPerNetName
from dwconv_jax.models.recipe import Recipe, default_preprocessing
from dwconv_jax.models.segmentation.upernet import UPerNet
from dwconv_jax.models.variant import Variant

Model = Classifier | UPerNet | CascadeMaskRCNN

HUB_PREFIX = "hf-hub:"

FAMILIES = (
    dwnet,
    swin,
    swin_v2,
    maxvit,
    halonet,
    nat,
    pvt_v2,
    mlp,
    uniformer,
    cswin,
    convnext,
    efficientnet,
)
VARIANTS: dict[str, Variant] = {
    name: variant for family in FAMILIES for name, variant in family.VARIANTS.items()
}
# Other libraries' names of the same networks.
ALIASES: dict[str, str] = {
    alias: name for family in FAMILIES for alias, name in family.ALIASES.items()
}


@dataclasses.dataclass(frozen=True)
class TaskVariant:
    """A model for another task on the backbone of a named classifier.

    `num_params` is exact for the classes of the data set of the paper's table; None if no paper has
    the model.
    """

    model: type[UPerNet] | type[CascadeMaskRCNN]
    backbone: Variant
    num_params: int | None


_DENSE = {name: variant for name, variant in VARIANTS.items() if variant.family.dense}
TASK_VARIANTS: dict[str, TaskVariant] = {
    **{
        f"upernet_{name}": TaskVariant(UPerNet, variant, variant.upernet_params)
        for name, variant in _DENSE.items()
    },
    **{
        f"cascade_mask_rcnn_{name}": TaskVariant(
            CascadeMaskRCNN, variant, variant.cascade_mask_rcnn_params
        )
        for name, variant in _DENSE.items()
    },
}


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return [*VARIANTS, *TASK_VARIANTS]


@overload
def create_model(
    name: ClassifierName, *, rngs: nnx.Rngs | None = ..., **overrides: Any
) -> Classifier: ...


@overload
def create_model(
    name: UPerNetName, *, rngs: nnx.Rngs | None = ..., **overrides: Any
) -> UPerNet: ...


@overload
def create_model(
    name: CascadeMaskRCNNName, *, rngs: nnx.Rngs | None = ..., **overrides: Any
) -> CascadeMaskRCNN: ...


@overload
def create_model(
    name: str | None = ..., *, rngs: nnx.Rngs | None = ..., **overrides: Any
) -> Any: ...


def create_model(
    name: str | None = None,
    *,
    num_classes: int | None = None,
    mixer: Mapping[str, Any] | None = None,
    num_heads: int | Sequence[int] | None = None,
    channels_per_group: int | Sequence[int] | None = None,
    lowering: str | Sequence[str] | None = None,
    pretrained: str | os.PathLike[str] | None = None,
    rngs: nnx.Rngs | None = None,
    **overrides: Any,
) -> Model:
    """Builds a named model, with overrides.

    Args:
      name: one of `list_models()`, or timm's name of one. With `pretrained`, None takes the name
        that is saved there. "hf-hub:OWNER/NAME" is short for `pretrained="hf-hub:OWNER/NAME"`.
      num_classes: outputs of the head; 0 for a classifier without one; None for those of the data
        set that the model is known for (ImageNet's 1,000, ADE20K's 150, COCO's 80).
      mixer: flags of `LocallyConnected` in place of the variant's own, for the paper's ablations; a
        flag may be a sequence with a value for each stage.
      num_heads: attention heads, one number or one for each stage (variants with attention).
      channels_per_group: channels that share a weight, likewise (i-dynamic variants).
      lowering: of every locally connected layer, or one for each stage; see
        `ops.locally_connected`.
      pretrained: weights to load: a PyTorch or safetensors file, a folder of `save_pretrained` or
        timm, a checkpoint, a run's workdir, or a repository of the Hugging Face hub ("OWNER/NAME",
        also with "hf-hub:" in front and "@REVISION" behind). A classifier's go into the backbone of
        other models. With `num_classes`, the head keeps its initialization where the file has
        another number of classes.
      rngs: initialization keys; may be None with `pretrained`.
      **overrides: fields of the model's config: see `BackboneConfig`, and for the other tasks
        `UPerNetConfig` and `CascadeMaskRCNNConfig`.

    Returns:
      The model; call it with images `[B, H, W, in_channels]` (a detector with their sizes too).

    Raises:
      UserError: for an unknown name or override, or flags that do not go together; it names the
        legal ones. Likewise for weights that do not fit, are damaged or cannot be found.
    """
    named = dict(
        num_classes=num_classes,
        mixer=mixer,
        num_heads=num_heads,
        channels_per_group=channels_per_group,
        lowering=lowering,
    )
    arguments = overrides | {key: value for key, value in named.items() if value is not None}
    if name is not None and name.startswith(HUB_PREFIX):
        name, pretrained = None, name
    if pretrained is not None:
        # Here, since `hub` knows the models.
        from dwconv_jax.hub.load import create_pretrained

        return create_pretrained(name, pretrained, arguments, rngs)
    if name is None:
        raise UserError("create_model needs a name or pretrained weights")
    if rngs is None:
        raise UserError("create_model needs rngs to draw weights, such as rngs=nnx.Rngs(0)")
    return build(name, arguments, rngs)


def build(name: str, arguments: Mapping[str, Any], rngs: nnx.Rngs) -> Model:
    """Builds a model by the arguments of `create_model`."""
    variant, model = find_variant(name)
    overrides = dict(arguments)
    mixer, lowering = overrides.pop("mixer", None), overrides.pop("lowering", None)
    groups = {flag: overrides.pop(flag, None) for flag in ("num_heads", "channels_per_group")}
    check_names("override", overrides, [f.name for f in dataclasses.fields(model.Config)])
    if mixer is not None and not isinstance(mixer, Mapping):
        raise UserError(f"mixer must be a mapping of flags, got {mixer!r}")
    check_names("mixer flag", mixer or {}, MixerFlags.__annotations__)
    flags = dict(variant.mixer if mixer is None else mixer)
    if mixer is None and "window_size" in overrides:
        flags.pop("kernel_size", None)
    for flag, value in groups.items():
        if value is None:
            continue
        if flag not in flags:
            raise UserError(f"{flag}={value!r} does not go with {name!r}, whose mixer is {flags}")
        flags[flag] = value
    if lowering is not None:
        flags["lowering"] = lowering
    own = dict(embed_dim=variant.embed_dim, depths=variant.depths, **variant.config)
    config: Any = model.Config(**(own | overrides))
    built = model(variant.family, flags, config, rngs=rngs)
    built.recipe = Recipe.of(ALIASES.get(name, name), arguments)
    if isinstance(built, Classifier):
        built.preprocessing = default_preprocessing(variant.image_size, config.in_channels)
    return built


def find_variant(name: str) -> tuple[Variant, type[Model]]:
    """The backbone's variant and the class of a named model; UserError for an unknown name."""
    name = ALIASES.get(name, name)
    check_names("model", [name], list_models())
    if name in VARIANTS:
        return VARIANTS[name], Classifier
    task_variant = TASK_VARIANTS[name]
    return task_variant.backbone, task_variant.model


def check_names(kind: str, names: Iterable[str], legal: Iterable[str]) -> None:
    """Raises a UserError for a name that is not legal, with the closest one that is."""
    legal = list(legal)
    for name in names:
        if name not in legal:
            close = difflib.get_close_matches(name, legal, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(sorted(legal))})")

"""The table of named variants, and how to build one."""

import dataclasses
import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import LocallyConnected
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.classifier import Classifier
from dwconv_jax.models.detection.cascade_mask_rcnn import CascadeMaskRCNN
from dwconv_jax.models.segmentation.upernet import UPerNet


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row: how the backbone differs, and what the paper says of it.

    `num_params` and `gmacs` (multiply-adds at 224x224, norms and activations aside) are exact for
    1,000 classes; `paper_params_m` and `paper_gflops` are the paper's rounded columns.
    """

    block: str
    mixer: Mapping[str, Any]
    embed_dim: int
    depths: tuple[int, ...]
    num_params: int
    gmacs: float
    paper_params_m: int
    paper_gflops: float


_TINY = (96, (2, 2, 6, 2))
_SMALL = (96, (2, 2, 18, 2))
_BASE = (128, (2, 2, 18, 2))

_STATIC = dict(connectivity="sliding", dynamic="none")
_POOLED = dict(connectivity="sliding", dynamic="pooled")


def _centre(*channels_per_group: int) -> dict[str, Any]:
    return dict(connectivity="sliding", dynamic="centre", channels_per_group=channels_per_group)


def _attention(*num_heads: int) -> dict[str, Any]:
    return dict(connectivity="window", dynamic="attention", groups=num_heads)


_CENTRE_TINY, _CENTRE_BASE = _centre(3, 6, 12, 24), _centre(4, 8, 16, 32)
_HEADS_TINY, _HEADS_BASE = _attention(3, 6, 12, 24), _attention(4, 8, 16, 32)

VARIANTS: dict[str, Variant] = {
    "dwnet_tiny": Variant("dw", _STATIC, *_TINY, 24_172_744, 3.73, 24, 3.8),
    "dwnet_base": Variant("dw", _STATIC, *_BASE, 74_347_112, 12.81, 74, 12.9),
    "dynamic_dwnet_tiny": Variant("dw", _POOLED, *_TINY, 51_131_752, 3.75, 51, 3.8),
    "dynamic_dwnet_base": Variant("dw", _POOLED, *_BASE, 161_597_928, 12.90, 162, 13.0),
    "i_dynamic_dwnet_tiny": Variant("dw", _CENTRE_TINY, *_TINY, 26_244_280, 4.37, 26, 4.4),
    "i_dynamic_dwnet_base": Variant("dw", _CENTRE_BASE, *_BASE, 80_253_608, 14.34, 80, 14.3),
    "swin_tiny": Variant("swin", _HEADS_TINY, *_TINY, 28_288_354, 4.49, 28, 4.5),
    "swin_small": Variant("swin", _HEADS_TINY, *_SMALL, 49_606_258, 8.74, 50, 8.7),
    "swin_base": Variant("swin", _HEADS_BASE, *_BASE, 87_768_224, 15.43, 88, 15.4),
}


@dataclasses.dataclass(frozen=True)
class TaskVariant:
    """A model for another task on the backbone of a named classifier.

    `num_params` is exact for `num_classes` classes, those of the data set of the paper's table.
    """

    model: type[UPerNet] | type[CascadeMaskRCNN]
    backbone: str
    num_classes: int
    num_params: int


def _upernet(backbone: str, num_params: int) -> TaskVariant:
    return TaskVariant(UPerNet, backbone, num_classes=150, num_params=num_params)


def _cascade(backbone: str, num_params: int) -> TaskVariant:
    return TaskVariant(CascadeMaskRCNN, backbone, num_classes=80, num_params=num_params)


TASK_VARIANTS: dict[str, TaskVariant] = {
    "upernet_dwnet_tiny": _upernet("dwnet_tiny", 55_826_252),
    "upernet_dwnet_base": _upernet("dwnet_base", 107_858_604),
    "upernet_dynamic_dwnet_tiny": _upernet("dynamic_dwnet_tiny", 82_785_260),
    "upernet_dynamic_dwnet_base": _upernet("dynamic_dwnet_base", 195_109_420),
    "upernet_i_dynamic_dwnet_tiny": _upernet("i_dynamic_dwnet_tiny", 57_897_788),
    "upernet_i_dynamic_dwnet_base": _upernet("i_dynamic_dwnet_base", 113_765_100),
    "upernet_swin_tiny": _upernet("swin_tiny", 59_941_862),
    "upernet_swin_small": _upernet("swin_small", 81_259_766),
    "upernet_swin_base": _upernet("swin_base", 121_279_716),
    "cascade_mask_rcnn_dwnet_tiny": _cascade("dwnet_tiny", 81_514_194),
    "cascade_mask_rcnn_dwnet_base": _cascade("dwnet_base", 131_555_890),
    "cascade_mask_rcnn_dynamic_dwnet_tiny": _cascade("dynamic_dwnet_tiny", 108_473_202),
    "cascade_mask_rcnn_dynamic_dwnet_base": _cascade("dynamic_dwnet_base", 218_806_706),
    "cascade_mask_rcnn_i_dynamic_dwnet_tiny": _cascade("i_dynamic_dwnet_tiny", 83_585_730),
    "cascade_mask_rcnn_i_dynamic_dwnet_base": _cascade("i_dynamic_dwnet_base", 137_462_386),
    "cascade_mask_rcnn_swin_tiny": _cascade("swin_tiny", 85_629_804),
    "cascade_mask_rcnn_swin_small": _cascade("swin_small", 106_947_708),
    "cascade_mask_rcnn_swin_base": _cascade("swin_base", 144_977_002),
}

Model = Classifier | UPerNet | CascadeMaskRCNN


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return [*VARIANTS, *TASK_VARIANTS]


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    mixer: Mapping[str, Any] | None = None,
    num_heads: Any = None,
    channels_per_group: Any = None,
    lowering: str | Sequence[str] | None = None,
    rngs: nnx.Rngs,
    **overrides: Any,
) -> Model:
    """Builds a named model, changed as told.

    Args:
      name: one of `list_models()`.
      num_classes: outputs of the head; None for those of the data set that the model is known for
        (ImageNet's 1,000, ADE20K's 150, COCO's 80).
      mixer: flags of `LocallyConnected` in place of the variant's own, for the paper's ablations;
        a flag may be a sequence with a value for each stage.
      num_heads: attention heads of each stage (variants with attention).
      channels_per_group: channels that share a weight at each stage (i-dynamic variants).
      lowering: of every locally connected layer, or one for each stage; see
        `ops.locally_connected`.
      rngs: initialisation keys.
      **overrides: arguments of `Backbone`: embed_dim, depths, window_size, mlp_ratio,
        drop_path_rate, in_channels, patch_size, image_size, batch_norm_group_size,
        squeeze_excitation, dtype, param_dtype; and of the task's model (see `UPerNet`,
        `CascadeMaskRCNN`).

    Returns:
      The model; call it with images `[B, H, W, in_channels]` (a detector with their sizes too).

    Raises:
      ValueError: for an unknown name or override, or flags that do not go together; it names the
        legal ones.
    """
    variant, model, known_classes = find_variant(name)
    legal = _parameters(Backbone) | _parameters(model) | {"dtype", "param_dtype"}
    _check_names("override", overrides, legal)
    _check_names("mixer flag", mixer or {}, _parameters(LocallyConnected) | {"channels_per_group"})
    flags = dict(variant.mixer if mixer is None else mixer)
    _replace_flag(
        flags, name, "groups", "num_heads", num_heads, flags.get("dynamic") == "attention"
    )
    _replace_flag(
        flags,
        name,
        "channels_per_group",
        "channels_per_group",
        channels_per_group,
        "channels_per_group" in flags,
    )
    if lowering is not None:
        flags["lowering"] = lowering
    arguments: dict[str, Any] = dict(
        embed_dim=variant.embed_dim, depths=variant.depths, block=variant.block
    )
    return model(
        num_classes=known_classes if num_classes is None else num_classes,
        rngs=rngs,
        mixer=flags,
        **(arguments | overrides),
    )


def find_variant(name: str) -> tuple[Variant, type[Model], int]:
    """The backbone's row, the model and its usual classes; ValueError for an unknown name."""
    _check_names("model", [name], set(list_models()))
    task_variant = TASK_VARIANTS.get(name)
    if task_variant is None:
        return VARIANTS[name], Classifier, 1000
    return VARIANTS[task_variant.backbone], task_variant.model, task_variant.num_classes


def _replace_flag(
    flags: dict[str, Any], model: str, flag: str, argument: str, value: Any, legal: bool
) -> None:
    if value is None:
        return
    if not legal:
        raise UserError(f"{argument}={value!r} does not go with {model!r}, whose mixer is {flags}")
    flags[flag] = value


def _parameters(module: Any) -> set[str]:
    names = inspect.signature(module.__init__).parameters
    implied = {"num_classes", "backbone", "pad_to_window"}
    return set(names) - {"self", "rngs", "dtypes", "mixer", "features", "block"} - implied


def _check_names(kind: str, names: Any, legal: set[str]) -> None:
    for name in names:
        if name not in legal:
            close = difflib.get_close_matches(name, legal, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"unknown {kind} {name!r}{hint} Known: {', '.join(sorted(legal))}")

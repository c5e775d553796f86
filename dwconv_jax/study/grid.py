"""The models that a study compares, and the question that each comparison answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from dwconv_jax.errors import UserError

Overrides = Mapping[str, Any]

_DW, _SWIN = "dwnet_tiny", "swin_tiny"


def study_config(
    base: ConfigDict,
    cells: Mapping[str, Overrides],
    questions: Mapping[str, Sequence[str]],
    *,
    seeds: Sequence[int],
    paper: bool = False,
) -> ConfigDict:
    """Makes a config for `python -m dwconv_jax.study`.

    Args:
      base: the config of a training run; cells change only its `model`.
      cells: by name, the fields of `base.model` that each cell changes.
      questions: by question, the cells to compare.
      seeds: each cell is trained once with each seed.
      paper: whether the page shows the paper's title and its published results.

    Raises:
      UserError: if a question names an unknown cell, or there are no cells or seeds.
    """
    if not cells or not seeds:
        raise UserError(f"a study needs cells and seeds, got {len(cells)} and {len(seeds)}")
    for question, names in questions.items():
        if missing := [name for name in names if name not in cells]:
            raise UserError(
                f"question {question!r} compares unknown cells {', '.join(missing)}; known: "
                f"{', '.join(cells)}"
            )
    # Pairs: a ConfigDict would sort the names.
    return ConfigDict(
        dict(
            base=base,
            seeds=tuple(seeds),
            paper=paper,
            cells=tuple((name, dict(overrides)) for name, overrides in cells.items()),
            questions=tuple((question, tuple(names)) for question, names in questions.items()),
        )
    )


def check_study(study: ConfigDict) -> None:
    """Raises a UserError for a config that `study_config` did not make."""
    if "cells" not in study:
        raise UserError(
            "--config is the config of one run, not of a study: name a study_*.py of configs/"
        )


def cell_config(study: ConfigDict, cell: int, seed: int) -> ConfigDict:
    """Returns the config of one training run; raises a UserError for an unknown cell."""
    if not 0 <= cell < len(study.cells):
        raise UserError(f"--cell={cell} must be in 0..{len(study.cells) - 1}")
    config = ConfigDict(study.base.to_dict())
    config.seed = seed
    with config.model.unlocked():
        config.model.update(study.cells[cell][1])
    return config


def paper_grid(
    *, kernel_sizes: Sequence[int], window_size: int, heads: Sequence[int], image_size: int
) -> tuple[dict[str, Overrides], dict[str, list[str]]]:
    """Makes the cells and questions of the paper's ablations, for any size of model.

    Every cell differs in one choice from a depth-wise convolution in DWNet's block, or from local
    attention in Swin's. `model.window_size` of the base config is the default kernel size.

    Args:
      kernel_sizes: more kernel sizes of the static depth-wise convolution.
      window_size: of the windows.
      heads: channel groups at each stage: attention heads, and groups of "centre" weights.
      image_size: height and width, for weights that positions do not share.
    """
    sliding = dict(connectivity="sliding")
    window = dict(connectivity="window", kernel_size=window_size)

    def dw(mixer: dict[str, Any], **flags: Any) -> Overrides:
        return dict(name=_DW, mixer=sliding | mixer, **flags)

    def swin(mixer: dict[str, Any], **flags: Any) -> Overrides:
        return dict(name=_SWIN, mixer=window | mixer, **flags)

    grouped: dict[str, Any] = dict(groups=tuple(heads))
    attention = dict(dynamic="attention", **grouped)
    cells = {
        "dw_static": dw({}),
        "dw_pooled": dw(dict(dynamic="pooled")),
        "dw_centre": dw(dict(dynamic="centre", **grouped)),
        "dw_attention": dw(attention),
        "dw_unshared_positions": dw(dict(share_positions=False), image_size=image_size),
        "dw_some_groups": dw(grouped),
        "dw_one_group": dw(dict(groups=1)),
        **{f"dw_kernel_{size}": dw({}, window_size=size) for size in kernel_sizes},
        "dw_window_attention": dw(window | attention),
        "swin_attention": swin(attention),
        "swin_local_mlp": swin(grouped),
        "swin_static": dict(name=_SWIN, mixer=sliding),
        "dw_static_se": dw({}, squeeze_excitation=True),
        "swin_attention_se": swin(attention, squeeze_excitation=True),
    }
    questions = {
        "Where do the weights come from?": ["dw_static", "dw_pooled", "dw_centre", "dw_attention"],
        "Do positions share them?": ["dw_static", "dw_unshared_positions"],
        "Do channels share them?": ["dw_static", "dw_some_groups", "dw_one_group"],
        "How far does a kernel reach?": [
            "dw_static", *(f"dw_kernel_{size}" for size in kernel_sizes)
        ],
        "What stands around the layer, and in it?": [
            "dw_static", "dw_window_attention", "swin_static", "swin_attention", "swin_local_mlp"
        ],
        "Does squeeze-excitation help?": [
            "dw_static", "dw_static_se", "swin_attention", "swin_attention_se"
        ],
    }  # fmt: skip
    return cells, questions


def attention_grid(
    *, window_size: int, heads: Sequence[int]
) -> tuple[dict[str, Overrides], dict[str, list[str]]]:
    """Makes the cells and the question of where attention looks, in DWNet's block.

    Every query sees `window_size ** 2` keys: those of its window, those around it (NAT), those
    around its block of `window_size / 2` (HaloNet), or as many over the whole map (MaxViT).

    Args:
      window_size: even.
      heads: attention heads at each stage.
    """
    attention: dict[str, Any] = dict(
        dynamic="attention", groups=tuple(heads), kernel_size=window_size
    )
    connectivities: dict[str, dict[str, Any]] = {
        "dw_window_attention": dict(connectivity="window"),
        "dw_neighborhood_attention": dict(connectivity="sliding", border="clamp"),
        "dw_halo_attention": dict(connectivity="sliding", stride=window_size // 2),
        "dw_grid_attention": dict(connectivity="grid"),
    }
    cells: dict[str, Overrides] = {
        name: dict(name=_DW, mixer=attention | flags) for name, flags in connectivities.items()
    }
    return cells, {"Where does attention look?": list(cells)}


def family_grid(
    *, window_size: int, heads: Sequence[int], dilations: Sequence[int], image_size: int
) -> tuple[dict[str, Overrides], dict[str, list[str]]]:
    """Makes a cell for the mixer of each published network, all in DWNet's block.

    Args:
      window_size: of kernels, windows and grids.
      heads: attention heads, and groups of channels that share weights, at each stage.
      dilations: of the dilated neighborhood, at each stage.
      image_size: height and width, for mixers whose parameters depend on it.
    """
    grouped: dict[str, Any] = dict(groups=tuple(heads))
    attention: dict[str, Any] = dict(dynamic="attention", **grouped)
    neighborhood: dict[str, Any] = dict(border="clamp", **attention)
    block = (window_size + 1) // 2
    mixers: dict[str, dict[str, Any]] = {
        "static_conv": {},
        "static_conv_3x3": dict(kernel_size=3),
        "pooled_conv": dict(dynamic="pooled"),
        "centre_conv": dict(dynamic="centre", **grouped),
        "static_windows": dict(connectivity="window", **grouped),
        "static_global": dict(connectivity="global", groups=1),
        "window_attention": dict(connectivity="window", **attention),
        "cosine_window_attention": dict(
            connectivity="window", attention=dict(position_bias="mlp", cosine=True), **attention
        ),
        "grid_attention": dict(connectivity="grid", **attention),
        "neighborhood_attention": neighborhood,
        "dilated_neighborhood_attention": dict(dilation=tuple(dilations), **neighborhood),
        "halo_attention": dict(kernel_size=2 * block, stride=block, **attention),
        "stripe_attention": dict(connectivity="window", kernel_size=(None, 2), **attention),
        "global_attention": dict(connectivity="global", **attention),
    }
    own = dict(connectivity="sliding", kernel_size=window_size)
    cells: dict[str, Overrides] = {
        name: dict(name=_DW, mixer=own | mixer, image_size=image_size)
        for name, mixer in mixers.items()
    }
    return cells, {"Which mixer learns fastest?": list(cells)}

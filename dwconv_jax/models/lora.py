"""Low-rank adaptation (Hu et al., 2021): `nnx.LoRALinear` in place of a model's linear layers."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from flax import nnx

from dwconv_jax.errors import UserError

ModelT = TypeVar("ModelT", bound=nnx.Module)


def add_lora(
    model: ModelT, rank: int, layers: Sequence[str] = ("stages/",), *, rngs: nnx.Rngs
) -> ModelT:
    """Adds a product of two matrices to the kernels of linear layers, in place.

    The product starts at 0, so that the model computes what it did. Its parameters are named after
    those of the layer: `.../fc1/lora/lora_a`, `[C_in, rank]`, and `lora_b`, `[rank, C_out]`.

    Args:
      model: with its weights.
      rank: of the product.
      layers: regular expressions, of which one is found in the path of a layer, such as
        "stages/0/blocks/1/mlp/fc1"; 1x1 convolutions are linear layers too.
      rngs: initialization keys.

    Returns:
      The same model.

    Raises:
      UserError: no linear layer matches; lists what the paths of linear layers end in.
    """
    linears = _find(model, nnx.Linear)
    chosen = [path for path in linears if any(re.search(p, _name(path)) for p in layers)]
    if not chosen:
        names = sorted({_name(path[-1:]) for path in linears})
        raise UserError(
            f"layers={tuple(layers)!r} are in the path of no linear layer; their paths end in "
            f"{', '.join(names)}"
        )
    for path in chosen:
        plain = linears[path]
        adapted = nnx.LoRALinear(
            **_arguments(plain),
            lora_rank=rank,
            lora_dtype=plain.dtype,
            lora_param_dtype=plain.param_dtype,
            lora_promote_dtype=plain.promote_dtype,
            rngs=rngs,
        )
        _replace(model, path, adapted, plain)
    return model


def merge_lora(model: ModelT) -> ModelT:
    """Adds the products of `add_lora` to the kernels, and puts plain layers back, in place.

    The model computes the same up to rounding. It can then be exported, converted and saved like
    one that has never had them.
    """
    for path, adapted in _find(model, nnx.LoRALinear).items():
        adapted.kernel[...] += adapted.lora.lora_a[...] @ adapted.lora.lora_b[...]
        _replace(model, path, nnx.Linear(**_arguments(adapted), rngs=nnx.Rngs(0)), adapted)
    return model


def check_merged(model: nnx.Module, use: str) -> None:
    """Raises a UserError if a model has products of `add_lora`, for uses that would lose them.

    Args:
      model: to check.
      use: what needs plain layers, for the error.
    """
    if adapted := _find(model, nnx.LoRALinear):
        raise UserError(
            f"{use} needs plain linear layers, but {len(adapted)} layers such as "
            f"{_name(next(iter(adapted)))!r} have low-rank products; merge_lora(model) adds these "
            "to the kernels"
        )


def _find(model: nnx.Module, kind: type) -> dict[tuple[Any, ...], Any]:
    return {path: module for path, module in nnx.iter_modules(model) if type(module) is kind}


def _name(path: Sequence[Any]) -> str:
    return "/".join(map(str, path))


def _arguments(linear: nnx.Linear) -> dict[str, Any]:
    """What makes a layer like this one, whose parameters will replace its own."""
    copied = (
        "in_features", "out_features", "use_bias", "dtype", "param_dtype", "precision",
        "dot_general", "promote_dtype", "preferred_element_type",
    )  # fmt: skip
    zeros = nnx.initializers.zeros_init()
    return {name: getattr(linear, name) for name in copied} | {"kernel_init": zeros}


def _replace(model: nnx.Module, path: Sequence[Any], new: nnx.Linear, old: nnx.Linear) -> None:
    """Puts `new` where `old` is, with its parameters."""
    new.kernel, new.bias = old.kernel, old.bias
    *parents, last = path
    parent: Any = model
    for key in parents:
        parent = parent[key] if isinstance(key, int) else getattr(parent, key)
    if isinstance(last, int):
        parent[last] = new
    else:
        setattr(parent, last, new)

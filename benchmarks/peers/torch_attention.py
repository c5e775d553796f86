"""Neighborhood attention in PyTorch, by `unfold` and by `flex_attention`."""

import functools
from collections.abc import Callable

import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def unfold(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    side: int,
    kernel: int,
    bias: torch.Tensor | float = 0.0,
) -> torch.Tensor:
    """`[B, heads, N, D]` over zero-padded neighborhoods, which `unfold` copies.

    The bias of each offset is `[heads, K, 1]`.
    """
    batch, heads, positions, width = query.shape

    def seen(x: torch.Tensor) -> torch.Tensor:
        maps = x.transpose(2, 3).reshape(batch, heads * width, side, side)
        copies = functional.unfold(maps, kernel, padding=kernel // 2)
        return copies.view(batch, heads, width, kernel**2, positions)

    inside = functional.unfold(torch.ones(1, 1, side, side), kernel, padding=kernel // 2)
    logits = (query.transpose(2, 3)[:, :, :, None] * seen(key)).sum(2) * width**-0.5 + bias
    logits = logits.masked_fill(inside == 0, -torch.inf)
    weights = logits.softmax(2)  # [B, heads, K, N]
    return (weights[:, :, None] * seen(value)).sum(3).transpose(2, 3)


def compiled_flex(side: int, kernel: int) -> Callable[..., torch.Tensor]:
    """`flex_attention`, compiled, with a block mask of neighborhoods clamped to the map."""
    radius = kernel // 2

    def visible(b, h, query, key):
        row, column = (x.clamp(radius, side - 1 - radius) for x in (query // side, query % side))
        near = (key // side - row).abs() <= radius
        return near & ((key % side - column).abs() <= radius)

    device = str(torch.get_default_device())
    mask = create_block_mask(visible, None, None, side**2, side**2, device=device)
    return functools.partial(torch.compile(flex_attention, dynamic=False), block_mask=mask)

"""Golden numbers of NAT and DiNAT: python tests/golden/generate/neighborhood.py FOLDER CODE.

CODE is the folder `classification` of SHI-Labs/Neighborhood-Attention-Transformer. A stand-in takes
the place of NATTEN, which has kernels for a few platforms only; it follows NATTEN's documentation.
"""

import sys
import types

import torch
from record import NUM_CLASSES, record
from torch import nn


def neighbors(length: int, kernel_size: int, dilation: int) -> torch.Tensor:
    """The keys of each query along an axis, `[length, kernel_size]`."""
    position = torch.arange(length)
    group, number = position % dilation, position // dilation
    last = (length - 1 - group) // dilation
    half = kernel_size // 2
    first = torch.minimum((number - half).clamp(min=0), last + 1 - kernel_size)
    return group[:, None] + dilation * (first[:, None] + torch.arange(kernel_size))


class NeighborhoodAttention2D(nn.Module):
    """Attention of each position to the `kernel_size ** 2` nearest ones of its dilation group."""

    def __init__(self, dim, kernel_size, dilation, num_heads, qkv_bias, qk_scale, bias, **unused):
        super().__init__()
        self.num_heads, self.kernel_size, self.dilation = num_heads, kernel_size, dilation or 1
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.rpb = nn.Parameter(torch.zeros(num_heads, *2 * [2 * kernel_size - 1]))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, height, width = x.shape[:3]
        window = self.kernel_size * self.dilation
        x = nn.functional.pad(x, (0, 0, 0, max(window - width, 0), 0, max(window - height, 0)))
        size = x.shape[1:3]
        qkv = self.qkv(x).reshape(batch, *size, 3, self.num_heads, -1).permute(3, 0, 4, 1, 2, 5)
        q, k, v = qkv[0] * self.scale, qkv[1], qkv[2]
        rows, columns = (neighbors(n, self.kernel_size, self.dilation) for n in size)
        down, across = (
            (seen - torch.arange(n)[:, None]) // self.dilation + self.kernel_size - 1
            for n, seen in zip(size, (rows, columns), strict=True)
        )
        k, v = (t[:, :, rows[:, None, :, None], columns[None, :, None, :]] for t in (k, v))
        logits = torch.einsum("bnhwd,bnhwijd->bnhwij", q, k)
        logits = logits + self.rpb[:, down[:, None, :, None], across[None, :, None, :]]
        weights = logits.flatten(-2).softmax(-1).reshape(logits.shape)
        y = torch.einsum("bnhwij,bnhwijd->bhwnd", weights, v).flatten(-2)
        return self.proj(y[:, :height, :width])


natten = types.ModuleType("natten")
natten.NeighborhoodAttention2D = NeighborhoodAttention2D
sys.modules["natten"] = natten
sys.path.append(sys.argv[2])

from nat import NAT  # noqa: E402

SIZE = dict(embed_dim=8, depths=[1, 2, 1, 1])
OPTIONS = {
    "nat": dict(),
    "dinat": dict(dilations=[[1], [1, 2], [1], [1]], layer_scale=1e-5),
}


def stages(model):
    def features(x):
        x = model.patch_embed(x)
        for level in model.levels:
            for block in level.blocks:
                x = block(x)
            yield x.permute(0, 3, 1, 2)
            x = x if level.downsample is None else level.downsample(x)

    return lambda x: list(features(x))


for name, options in OPTIONS.items():
    model = NAT(
        num_heads=[1, 2, 4, 8], mlp_ratio=2, kernel_size=3, num_classes=NUM_CLASSES,
        drop_path_rate=0.0, **SIZE, **options,
    )  # fmt: skip
    config = SIZE | dict(window_size=3, mlp_ratio=2, num_heads=[1, 2, 4, 8])
    record(name, model, stages(model), config)

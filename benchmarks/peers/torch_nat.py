"""NAT in plain PyTorch, for timing: by `unfold`, since NATTEN has no kernels for CPUs any more."""

import torch
from torch import nn
from torch_attention import unfold
from torch_models import ChannelsLast, TransformerBlock

_KERNEL = 7
_DEPTHS = (3, 4, 6, 5)
_HEADS = (2, 4, 8, 16)
_WIDTH = 64


class NeighborhoodAttention(nn.Module):
    """Attention to the neighborhood of each position, with a bias for each offset."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(heads, _KERNEL**2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        batch, side, _, channels = x.shape
        qkv = self.qkv(x).view(batch, side**2, 3, self.heads, channels // self.heads)
        y = unfold(*qkv.permute(2, 0, 3, 1, 4), side, _KERNEL, self.bias)
        return self.proj(y.transpose(1, 2).reshape(x.shape))


def nat_mini(num_classes: int) -> nn.Module:
    """NAT-Mini."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, _WIDTH // 2, 3, 2, 1),
        nn.Conv2d(_WIDTH // 2, _WIDTH, 3, 2, 1),
    ]
    for stage, (depth, heads) in enumerate(zip(_DEPTHS, _HEADS, strict=True)):
        channels = _WIDTH * 2**stage
        if stage:
            layers.append(nn.Conv2d(channels // 2, channels, 3, 2, 1, bias=False))
        mixers = (NeighborhoodAttention(channels, heads) for _ in range(depth))
        blocks = (TransformerBlock(channels, mixer, mlp_ratio=3) for mixer in mixers)
        layers.append(ChannelsLast(nn.LayerNorm(channels), *blocks))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return nn.Sequential(*layers, ChannelsLast(nn.LayerNorm(channels)), *head)

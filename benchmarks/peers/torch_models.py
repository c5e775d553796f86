"""The models in plain PyTorch, for timing."""

import torch
from torch import nn
from torch.nn import functional

_WINDOW = 7
_HEADS = (3, 6, 12, 24)
_GROUPS = 32  # of channels that share a weight
_DEPTHS = (2, 2, 6, 2)
_WIDTH = 96


def unfolded_mix(x: torch.Tensor, weight: torch.Tensor, kernel: int) -> torch.Tensor:
    """Mixes `[B, C, H, W]` by one kernel per position and group, `[B, G, k*k, H, W]`."""
    batch, channels, height, width = x.shape
    groups = weight.shape[1]
    seen = functional.unfold(x, kernel, padding=kernel // 2)
    seen = seen.view(batch, groups, channels // groups, kernel**2, height, width)
    return (seen * weight[:, :, None]).sum(3).reshape(x.shape)


class Static(nn.Conv2d):
    """A depth-wise convolution."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, _WINDOW, padding=_WINDOW // 2, groups=channels)


class Pooled(nn.Module):
    """A depth-wise convolution by a kernel predicted for each image."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 4, bias=False)
        self.norm = nn.BatchNorm1d(channels // 4)
        self.predict = nn.Linear(channels // 4, channels * _WINDOW**2)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        batch, channels, height, width = x.shape
        weight = self.predict(functional.relu(self.norm(self.squeeze(x.mean((2, 3))))))
        y = functional.conv2d(
            x.reshape(1, batch * channels, height, width),
            weight.reshape(batch * channels, 1, _WINDOW, _WINDOW),
            self.bias.repeat(batch),
            padding=_WINDOW // 2,
            groups=batch * channels,
        )
        return y.reshape(x.shape)


class Centre(nn.Module):
    """A convolution by kernels predicted for each position."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.norm = nn.BatchNorm2d(channels // 4)
        self.predict = nn.Conv2d(channels // 4, _GROUPS * _WINDOW**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        weight = self.predict(functional.relu(self.norm(self.squeeze(x))))
        return unfolded_mix(x, weight.view(len(x), _GROUPS, _WINDOW**2, *x.shape[2:]), _WINDOW)


class DWBlock(nn.Module):
    """DWNet's block, channels first."""

    def __init__(self, channels: int, mixer: nn.Module):
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            mixer,
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.mlp = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = x + self.mix(x)
        return x + self.mlp(x)


class WindowAttention(nn.Module):
    """Window attention with relative position bias on a map of `size`, shifted if `shift`."""

    def __init__(self, channels: int, heads: int, size: int, shift: int):
        super().__init__()
        self.heads, self.size, self.shift = heads, size, shift
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.table = nn.Parameter(torch.zeros((2 * _WINDOW - 1) ** 2, heads))
        offsets = torch.stack(
            torch.meshgrid(torch.arange(_WINDOW), torch.arange(_WINDOW), indexing="ij")
        ).flatten(1)
        row, column = offsets[:, :, None] - offsets[:, None] + _WINDOW - 1
        self.register_buffer("index", (row * (2 * _WINDOW - 1) + column).flatten())
        self.register_buffer("mask", self._seam() if shift else None)

    def _seam(self) -> torch.Tensor:
        ends = torch.arange(self.size) >= self.size - self.shift
        label = (2 * ends[:, None] + ends[None]).view(1, self.size, self.size, 1)
        label = self._windows(label).flatten(1)
        return torch.where(label[:, :, None] == label[:, None], 0.0, -100.0)[:, None]

    def _windows(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, side = len(x), x.shape[-1], self.size // _WINDOW
        x = x.view(batch, side, _WINDOW, side, _WINDOW, channels).transpose(2, 3)
        return x.reshape(batch * side**2, _WINDOW**2, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        batch, channels, side = len(x), x.shape[-1], self.size // _WINDOW
        x = self._windows(torch.roll(x, (-self.shift, -self.shift), (1, 2)))
        qkv = self.qkv(x).view(len(x), -1, 3, self.heads, channels // self.heads)
        bias = self.table[self.index].view(_WINDOW**2, _WINDOW**2, -1).permute(2, 0, 1)[None]
        if self.mask is not None:
            bias = (bias + self.mask).repeat(batch, 1, 1, 1)
        y = functional.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), attn_mask=bias)
        y = self.proj(y.transpose(1, 2).reshape(x.shape))
        y = y.view(batch, side, side, _WINDOW, _WINDOW, channels).transpose(2, 3)
        y = y.reshape(batch, self.size, self.size, channels)
        return torch.roll(y, (self.shift, self.shift), (1, 2))


class TransformerBlock(nn.Module):
    """Attention and an MLP with layer norms, channels last."""

    def __init__(self, channels: int, attention: nn.Module, mlp_ratio: int = 4):
        super().__init__()
        self.mix = nn.Sequential(nn.LayerNorm(channels), attention)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, mlp_ratio * channels),
            nn.GELU(),
            nn.Linear(mlp_ratio * channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = x + self.mix(x)
        return x + self.mlp(x)


class ChannelsLast(nn.Module):
    """Applies modules of `[B, H, W, C]` to `[B, C, H, W]`."""

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.inner = nn.Sequential(*modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


_MIXERS = {"dwnet_tiny": Static, "dynamic_dwnet_tiny": Pooled, "i_dynamic_dwnet_tiny": Centre}


class TransformersSwin(nn.Module):
    """Hugging Face's Swin in its default configuration, the tiny one."""

    def __init__(self, image_size: int, num_classes: int):
        super().__init__()
        from transformers import SwinConfig, SwinForImageClassification

        config = SwinConfig(image_size=image_size, num_labels=num_classes)
        self.inner = SwinForImageClassification(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.inner(x).logits


def create(name: str, image_size: int = 224, num_classes: int = 1000) -> nn.Module:
    """A tiny model by this project's name for it, `timm/<name>`, or `transformers_swin_tiny`."""
    if name.startswith("timm/"):
        import timm

        return timm.create_model(name.removeprefix("timm/"), num_classes=num_classes)
    if name == "nat_mini":
        from torch_nat import nat_mini

        return nat_mini(num_classes)
    if name == "transformers_swin_tiny":
        return TransformersSwin(image_size, num_classes)
    layers: list[nn.Module] = [nn.Conv2d(3, _WIDTH, 4, 4), ChannelsLast(nn.LayerNorm(_WIDTH))]
    for stage, depth in enumerate(_DEPTHS):
        channels, size, heads = _WIDTH * 2**stage, image_size // 4 // 2**stage, _HEADS[stage]
        if name == "swin_tiny":
            shifts = [_WINDOW // 2 if size > _WINDOW and i % 2 else 0 for i in range(depth)]
            attentions = [WindowAttention(channels, heads, size, shift) for shift in shifts]
            layers.append(ChannelsLast(*(TransformerBlock(channels, a) for a in attentions)))
        else:
            layers += [DWBlock(channels, _MIXERS[name](channels)) for _ in range(depth)]
        if stage < len(_DEPTHS) - 1:
            norm, reduction = (
                nn.LayerNorm(4 * channels),
                nn.Linear(4 * channels, 2 * channels, False),
            )
            layers += [nn.PixelUnshuffle(2), ChannelsLast(norm, reduction)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return nn.Sequential(*layers, ChannelsLast(nn.LayerNorm(channels)), *head)

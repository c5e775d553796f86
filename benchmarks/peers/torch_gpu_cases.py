"""What `torch_gpu` times: operators in the default dtype, and networks under autocast."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch_attention
import torch_models
from torch.nn import functional

Calls = tuple[Callable[..., Any], Sequence[tuple[Any, ...]]]  # a function, and all its arguments


def _map(*shape: int) -> torch.Tensor:
    """A map `[B, H, W, C]` in memory, seen as `[B, C, H, W]`."""
    return torch.randn(shape).permute(0, 3, 1, 2)


def convolution(
    count: int,
    shape: Sequence[int],
    kernel: Sequence[int],
    operation: str,
    dilation: int = 1,
    compiled: bool = False,
) -> Calls:
    """A depth-wise convolution or one of its gradients."""
    channels = shape[-1]
    weight = torch.randn(channels, 1, *kernel)
    padding = [dilation * (k - 1) // 2 for k in kernel]
    rest = ([1, 1], padding, [dilation] * 2, False, [0, 0], channels)

    def gradient(g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, which: int) -> Any:
        mask = [i == which for i in range(3)]
        backward = torch.ops.aten.convolution_backward
        return backward(g, x, weight, None, *rest, mask)[which]

    maps = [(_map(*shape), _map(*shape)) for _ in range(count)]
    function, calls = {
        "forward": (
            lambda x: functional.conv2d(x, weight, None, 1, padding, dilation, channels),
            [(x,) for x, _ in maps],
        ),
        "input gradient": (lambda g: gradient(g, g, weight, 0), [(g,) for _, g in maps]),
        "weight gradient": (lambda x, g: gradient(g, x, weight, 1), maps),
    }[operation]
    return torch.compile(function, dynamic=False) if compiled else function, calls


def sequence_layers(
    count: int, shape: Sequence[int], kernel: int, layers: int, operation: str
) -> Calls:
    """A stack of depth-wise 1-D convolutions."""
    batch, length, channels = shape
    weights = [torch.randn(channels, 1, kernel, requires_grad=True) for _ in range(layers)]

    def stack(x: torch.Tensor) -> torch.Tensor:
        for weight in weights:
            x = functional.conv1d(x, weight, padding=(kernel - 1) // 2, groups=channels)
        return x

    maps = [torch.randn(batch, channels, length, requires_grad=True) for _ in range(count)]
    return _with_operation(stack, [(x,) for x in maps], operation, weights)


def short_convolution(count: int, shape: Sequence[int], taps: int, operation: str) -> Calls:
    """A causal short convolution with bias and SiLU, channels last in memory."""
    channels = shape[-1]
    weight = torch.randn(channels, 1, 1, taps, requires_grad=True)
    bias = torch.randn(channels, requires_grad=True)

    def short(x: torch.Tensor) -> torch.Tensor:
        y = functional.conv2d(x, weight, bias, padding=(0, taps - 1), groups=channels)
        return functional.silu(y[..., : shape[1]])

    maps = [_map(shape[0], 1, *shape[1:]).requires_grad_() for _ in range(count)]
    return _with_operation(short, [(x,) for x in maps], operation, [weight, bias])


def neighborhoods(count: int, shape: Sequence[int], kernel: int, operation: str) -> Calls:
    """Neighborhood attention by `flex_attention`, which is always compiled."""
    batch, side, _, heads, width = shape
    attend = torch_attention.compiled_flex(side, kernel)
    qkv = _queries_keys_values(count, (batch, heads, side**2, width))
    return _with_operation(attend, qkv, operation)


def windows(
    count: int, shape: Sequence[int], window: int, operation: str, compiled: bool = False
) -> Calls:
    """Attention inside windows of maps `[B, H, W, heads, D]`, by SDPA."""
    batch, side, _, heads, width = shape
    tiles = side // window

    def split(x: torch.Tensor) -> torch.Tensor:
        x = x.view(batch, tiles, window, tiles, window, heads, width)
        return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, heads, window**2, width)

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        y = functional.scaled_dot_product_attention(*map(split, qkv))
        y = y.view(batch, tiles, tiles, heads, window, window, width)
        return y.permute(0, 1, 4, 2, 5, 3, 6).reshape(*shape)

    function = torch.compile(attend, dynamic=False) if compiled else attend
    return _with_operation(function, _queries_keys_values(count, shape), operation)


def _queries_keys_values(count: int, shape: Sequence[int]) -> list[tuple[torch.Tensor, ...]]:
    return [tuple(torch.randn(*shape, requires_grad=True) for _ in range(3)) for _ in range(count)]


def _with_operation(
    function: Callable[..., torch.Tensor],
    calls: list[tuple[torch.Tensor, ...]],
    operation: str,
    parameters: Sequence[torch.Tensor] = (),
) -> Calls:
    """The function, or with "forward + gradients" also those of all arguments and parameters."""
    if operation == "forward":
        return torch.no_grad()(function), [tuple(x.detach() for x in call) for call in calls]
    with torch.no_grad():
        cotangent = torch.randn_like(function(*calls[0]))

    def training(*arguments: torch.Tensor) -> Any:
        return torch.autograd.grad(function(*arguments), [*arguments, *parameters], cotangent)

    return training, calls


def model(name: str, batch: int, size: int, train: bool, compiled: bool) -> Calls:
    """A whole model under autocast: evaluation, or a training step with AdamW."""
    torch.set_default_dtype(torch.float32)
    module = _create(name, size).to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels, on_gpu = torch.arange(batch), images.is_cuda
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.05, fused=on_gpu)
    autocast = functools.partial(torch.autocast, images.device.type, torch.bfloat16)
    module.train(train)
    if compiled:
        # Blocks share code, and only 8 variants of it compile by default.
        torch._dynamo.config.recompile_limit = 64
        module.compile(dynamic=False)

    def evaluate() -> torch.Tensor:
        with torch.no_grad(), autocast():
            return module(images)

    def step() -> None:
        optimizer.zero_grad()
        with autocast():
            loss = functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()

    return step if train else evaluate, [()]


def _create(name: str, size: int) -> torch.nn.Module:
    source, _, plain = name.rpartition("/")
    if source != "timm":
        return torch_models.create(name, size)
    import timm

    return timm.create_model(plain)


_FUNCTIONS = (convolution, sequence_layers, short_convolution, neighborhoods, windows, model)
CASES = {f.__name__: f for f in _FUNCTIONS}

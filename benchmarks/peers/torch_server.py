"""Times PyTorch: reads one case per line as JSON, answers with the seconds of a call.

Imports nothing else of this project, so that its interpreter needs only PyTorch (and Pillow, for
the input pipeline).
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable

import torch
import torch_attention
import torch_detection
import torch_models
from torch.nn import functional

Call = Callable[[], object]


def _random(*shape: int, channels_last: bool = False, grad: bool = False) -> torch.Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.randn(*shape).contiguous(memory_format=layout).requires_grad_(grad)


def _forward_or_training(operator: Callable, inputs: list[torch.Tensor], train: bool) -> Call:
    def forward() -> torch.Tensor:
        with torch.no_grad():
            return operator(*inputs)

    cotangent = torch.randn_like(forward(), memory_format=torch.preserve_format)

    def training() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(operator(*inputs), inputs, cotangent)

    return training if train else forward


def static(batch, height, width, channels, kernel, dilation, train, groups=None) -> Call:
    """A convolution in channels-last, oneDNN's fast layout; depth-wise if `groups` is None."""
    groups = groups or channels
    x = _random(batch, channels, height, width, channels_last=True, grad=train)
    weight = _random(channels, channels // groups, *kernel, grad=train)
    padding = [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
    convolve = functools.partial(
        functional.conv2d, padding=padding, dilation=dilation, groups=groups
    )
    return _forward_or_training(convolve, [x, weight], train)


def pooled(batch, height, width, channels, kernel, dilation, train) -> Call:
    """A kernel for each image, as in the released code: images become groups."""
    x = _random(batch, channels, height, width, grad=train)
    weight = _random(batch, channels, *kernel, grad=train)
    padding = [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]

    def convolve(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        y = functional.conv2d(
            x.reshape(1, batch * channels, height, width),
            weight.reshape(batch * channels, 1, *kernel),
            padding=padding,
            dilation=dilation,
            groups=batch * channels,
        )
        return y.reshape(batch, channels, height, width)

    return _forward_or_training(convolve, [x, weight], train)


def centre(batch, height, width, channels, kernel, dilation, train, groups) -> Call:
    """A kernel for each position, by `unfold`."""
    x = _random(batch, channels, height, width, grad=train)
    weight = _random(batch, groups, kernel[0] * kernel[1], height, width, grad=train)

    def mix(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch_models.unfolded_mix(x, weight, kernel[0])

    return _forward_or_training(mix, [x, weight], train)


def sequence_layers(batch, length, channels, kernel, layers, train) -> Call:
    """A stack of depth-wise 1-D convolutions."""
    x = _random(batch, channels, length, grad=train)
    weights = [_random(channels, 1, kernel, grad=train) for _ in range(layers)]

    def stack(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        for weight in weights:
            x = functional.conv1d(x, weight, padding=(kernel - 1) // 2, groups=channels)
        return x

    return _forward_or_training(stack, [x, *weights], train)


def short_conv(batch, length, channels, kernel, train, channels_last=False) -> Call:
    """A causal short convolution with bias and SiLU; channels-last as maps of height 1."""
    flat = (1,) if channels_last else ()
    x = _random(batch, channels, *flat, length, channels_last=channels_last, grad=train)
    weight = _random(channels, 1, *flat, kernel, grad=train)
    bias = _random(channels, grad=train)
    convolve = functional.conv2d if channels_last else functional.conv1d
    padding = (0, kernel - 1) if channels_last else kernel - 1

    def short(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = convolve(x, weight, bias, padding=padding, groups=channels)
        return functional.silu(y[..., :length])

    return _forward_or_training(short, [x, weight, bias], train)


def unfold_attention(batch, side, heads, width, kernel, train) -> Call:
    """Neighborhood attention by `unfold`."""
    qkv = [_random(batch, heads, side**2, width, grad=train) for _ in range(3)]
    attend = functools.partial(torch_attention.unfold, side=side, kernel=kernel)
    return _forward_or_training(attend, qkv, train)


def flex_attention(batch, side, heads, width, kernel, train) -> Call:
    """Neighborhood attention by `flex_attention`, which has no gradients on CPU."""
    qkv = [_random(batch, heads, side**2, width) for _ in range(3)]
    return _forward_or_training(torch_attention.compiled_flex(side, kernel), qkv, train)


def model(name, batch, size, train, compiled=False, dtype="float32") -> Call:
    """A whole model: evaluation, or a training step with AdamW."""
    module = torch_models.create(name).to(getattr(torch, dtype))
    if compiled:
        torch._dynamo.config.recompile_limit = (
            64  # blocks share code, and only 8 variants of it compile by default
        )
        module.compile(dynamic=False)
    images = torch.randn(batch, 3, size, size, dtype=getattr(torch, dtype))
    labels = torch.arange(batch)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.05)
    module.train(train)

    def evaluate() -> torch.Tensor:
        with torch.no_grad():
            return module(images)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(module(images), labels).backward()
        optimizer.step()

    return step if train else evaluate


def roi_align(size, channels, boxes, bins) -> Call:
    """RoIAlign on a square map."""
    features, boxes = torch.randn(1, channels, size, size), torch.tensor(boxes)
    return lambda: torch_detection.roi_align(features, boxes, bins)


def nms(boxes, scores, threshold) -> Call:
    """Greedy NMS."""
    boxes, scores = torch.tensor(boxes), torch.tensor(scores)
    return lambda: torch_detection.nms(boxes, scores, threshold)


def input_pipeline(folder, size, batch, workers, full) -> Call:
    """The next batch of a DataLoader."""
    import torch_input  # needs Pillow

    return functools.partial(next, torch_input.batches(folder, size, batch, workers, full))


_FUNCTIONS = (
    static,
    pooled,
    centre,
    sequence_layers,
    short_conv,
    unfold_attention,
    flex_attention,
    model,
    roi_align,
    nms,
    input_pipeline,
)
CASES = {f.__name__: f for f in _FUNCTIONS}


def serve(threads: int) -> None:
    """Answers until the input ends; keeps only the last case, since models are large."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints go to stderr, away from the protocol
    print(json.dumps({"version": torch.__version__}), file=answers, flush=True)
    current: tuple | None = None
    call: Call = int
    for line in sys.stdin:
        request = json.loads(line)
        if current != (wanted := (request["case"], request["arguments"])):
            current, call = None, int  # frees the last case before setting up the next
            try:
                call = CASES[request["case"]](**request["arguments"])
            except ModuleNotFoundError as error:
                print(json.dumps({"missing": error.name}), file=answers, flush=True)
                continue
            current = wanted
        start = time.perf_counter()
        for _ in range(request["repeats"]):
            call()
        seconds = (time.perf_counter() - start) / request["repeats"]
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))

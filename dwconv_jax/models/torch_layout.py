"""What a PyTorch state dict holds, entry by entry, beside the variables of ours that hold it.

Every model lists its entries in `torch_layout`; families list those of their blocks. These are the
pieces that they are made of.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import BatchNorm, DepthwiseConv, LocallyConnected, PatchEmbed
from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.layers.weights import StaticWeights
from dwconv_jax.ops.connectivity import Sliding

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor of the PyTorch state dict and the variable that holds it here.

    The tensor is our array, or some columns of it, with its axes split, reordered and joined again.
    """

    name: str
    variable: nnx.Variable
    shape: Shape  # of the tensor
    split: Shape  # of our array
    order: Shape  # of the split axes in the tensor
    flipped: Shape = ()  # split axes that count backwards in the tensor
    columns: tuple[int, int | None] = (0, None)  # of our last axis, before splitting

    def read(self) -> np.ndarray:
        """The variable as PyTorch holds it."""
        array = np.asarray(self.variable[...])[..., slice(*self.columns)].reshape(self.split)
        array = np.flip(array, self.flipped)
        return np.ascontiguousarray(array.transpose(self.order)).reshape(self.shape)

    def write(self, tensor: np.ndarray) -> None:
        """Sets the variable, which may be abstract, to a tensor of `shape`."""
        array = tensor.reshape([self.split[axis] for axis in self.order])
        array = np.flip(array.transpose(np.argsort(self.order)), self.flipped)
        if self.columns == (0, None):
            value = jnp.asarray(array.reshape(self.variable.shape), self.variable.dtype)
        else:
            value = self._with_columns(array.reshape(*self.variable.shape[:-1], -1))
        self.variable.set_value(value)

    def _with_columns(self, columns: np.ndarray) -> jax.Array:
        """The variable's value, zero where it is abstract, with some columns of another."""
        value = self.variable.get_value()
        if isinstance(value, jax.ShapeDtypeStruct):
            value = jnp.zeros(value.shape, value.dtype)
        return value.at[..., slice(*self.columns)].set(columns)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A constant of the PyTorch state dict that our models compute.

    A `checked` buffer must hold `value`. The others depend on the image size of the checkpoint or
    count batches, and are not read.
    """

    name: str
    value: np.ndarray
    checked: bool

    def read(self) -> np.ndarray:
        """The constant."""
        return self.value


Layout = Iterator[Entry | Buffer]


def prefixed(prefix: str, items: Layout) -> Layout:
    """The entries of a part, under its name."""
    return (dataclasses.replace(item, name=f"{prefix}.{item.name}") for item in items)


def renamed(layout: Layout, rules: Sequence[tuple[str, str]]) -> Layout:
    """The entries of a layout under other names: each rule is a pattern and what replaces it."""
    for item in layout:
        name = item.name
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        yield dataclasses.replace(item, name=name)


def raw(variable: Any, name: str) -> Entry:
    """A variable that has the same layout in both."""
    shape = variable.shape
    return Entry(name, variable, shape, split=shape, order=tuple(range(len(shape))))


def transposed(variable: Any, name: str, split: Shape, shape: Shape) -> Entry:
    """A variable whose (split) axes PyTorch has in reverse: outputs first rather than last."""
    return Entry(name, variable, shape, split, order=tuple(reversed(range(len(split)))))


def halves(variable: Any, first: str, second: str) -> Layout:
    """Two vectors there that are one here, such as the scales of a block's two branches."""
    width = variable.shape[0] // 2
    for name, start in ((first, 0), (second, width)):
        yield Entry(name, variable, (width,), (width,), (0,), columns=(start, start + width))


def linear(module: Any, name: str, kernel_size: Shape = ()) -> Layout:
    """A linear layer, or a convolution of `kernel_size` (1, 1)."""
    features_in, features_out = module.kernel.shape
    shape = (features_out, features_in, *kernel_size)
    yield transposed(module.kernel, f"{name}.weight", module.kernel.shape, shape)
    if module.bias is not None:
        yield raw(module.bias, f"{name}.bias")


def conv1x1(module: nnx.Linear, name: str) -> Layout:
    """A linear layer here that is a 1x1 convolution there."""
    yield from linear(module, name, kernel_size=(1, 1))


def conv(module: nnx.Conv, name: str) -> Layout:
    """A convolution: its kernel is `[out, in, h, w]` there, `[h, w, in, out]` here."""
    height, width, features_in, features_out = module.kernel.shape
    yield Entry(
        f"{name}.weight",
        module.kernel,
        (features_out, features_in, height, width),
        split=module.kernel.shape,
        order=(3, 2, 0, 1),
    )
    if module.bias is not None:
        yield raw(module.bias, f"{name}.bias")


def depthwise(module: DepthwiseConv | LocallyConnected, name: str) -> Layout:
    """A depth-wise convolution: its kernel is `[C, 1, h, w]` there, `[..., h * w, C]` here.

    Raises:
      UserError: for a layer that is not a depth-wise convolution.
    """
    match module:
        case DepthwiseConv(kernel=kernel):
            sliding: Any = module.connectivity
        case LocallyConnected(source=StaticWeights(kernel=kernel), connectivity=sliding) if (
            isinstance(sliding, Sliding) and kernel.shape[::3] == (1, module.features)
        ):
            pass
        case _:
            raise UserError(
                f"{name}: the original has a depth-wise convolution here, so there is no PyTorch "
                f"layout for dynamic={module.dynamic!r} weights over {module.connectivity}"
            )
    size = sliding.kernel_size
    if sliding != Sliding(size):
        raise UserError(f"{name}: there is no PyTorch layout for {sliding}")
    split = (math.prod(size), kernel.shape[-1])
    yield transposed(kernel, f"{name}.weight", split, (kernel.shape[-1], 1, *size))
    if module.bias is not None:
        yield raw(module.bias, f"{name}.bias")


def conv_norm_act(module: ConvNormAct, name: str) -> Layout:
    """A convolution and its batch norm."""
    yield from conv(module.conv, f"{name}.conv")
    yield from norm(module.norm, f"{name}.bn")


def norm(module: Any, name: str) -> Layout:
    """Scale and bias, and the running statistics of a batch norm."""
    yield raw(module.scale, f"{name}.weight")
    yield raw(module.bias, f"{name}.bias")
    if isinstance(module, BatchNorm):
        yield raw(module.mean, f"{name}.running_mean")
        yield raw(module.var, f"{name}.running_var")
        yield Buffer(f"{name}.num_batches_tracked", np.array(0, np.int64), checked=False)


def patches(module: nnx.Linear, name: str, size: int) -> Layout:
    """A linear layer on patches here that is a convolution with a stride of its size there."""
    inputs, features = module.kernel.shape
    split = (size, size, inputs // size**2, features)
    shape = (features, inputs // size**2, size, size)
    yield Entry(f"{name}.weight", module.kernel, shape, split, order=(3, 2, 0, 1))
    yield raw(module.bias, f"{name}.bias")


def patch_embed(module: PatchEmbed, name: str) -> Layout:
    """A convolution whose stride is its kernel size, and a layer norm."""
    yield from patches(module.proj, f"{name}.proj", module.patch_size)
    yield from norm(module.norm, f"{name}.norm")

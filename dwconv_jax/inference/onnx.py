"""A model as an ONNX graph, with its weights inside, and the graph in ONNX Runtime."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.inference.gathered import gather_neighborhoods
from dwconv_jax.inference.program import Program, any_batch, from_pixels
from dwconv_jax.inference.straight_line import straight_line
from dwconv_jax.models.fold import fold_batch_norms

OPSET = 21
INPUT, OUTPUT = "pixels", "logits"
_LARGEST = 2**31 - 1  # bytes of a protocol buffer
# A product with a matrix, such as `abc,cd->abd`.
_LINEAR = re.compile(r"(\w+)(\w),(\w)(\w)->(\w+)(\w)")


def export_onnx(
    model: nnx.Module,
    image_shape: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> bytes:
    """Converts a model for any batch size, with its batch norms folded and its weights inside.

    The graph uses opset `OPSET`, takes `pixels`, uint8 `[batch, H, W, C]`, and returns `logits`::

        session = onnxruntime.InferenceSession("model.onnx")
        (logits,) = session.run(None, {"pixels": pixels})

    Args:
      model: takes normalized images `[B, H, W, C]` and returns logits; the graph computes in
        float32, also where the model computes in bfloat16.
      image_shape: `(H, W, C)`.
      mean: subtracted from pixels in 0..1; one number, or one per channel.
      std: divides them; likewise.

    Returns:
      The content of an `.onnx` file.

    Raises:
      UserError: if jax2onnx is not installed, an operator of the model has no form in ONNX, or the
        weights exceed the 2 GB of a file.
    """
    to_onnx = _converter()
    pixels = any_batch(image_shape)
    plain = _in_float32(gather_neighborhoods(fold_batch_norms(model)))
    predict = from_pixels(plain, mean=mean, std=std)
    program = straight_line(predict, pixels)
    try:
        proto = to_onnx(program, [pixels], opset=OPSET, input_names=[INPUT], output_names=[OUTPUT])
    except NotImplementedError as error:
        raise UserError(f"the model has an operator that ONNX export lacks: {error}") from error
    if proto.ByteSize() > _LARGEST:
        raise UserError(
            f"the model has {proto.ByteSize() / 1e9:.1f} GB of weights; an ONNX file holds 2 GB"
        )
    _multiply_matrices(proto.graph)
    return proto.SerializeToString()


def onnx_program(content: bytes) -> Program:
    """Loads what `export_onnx` returns into ONNX Runtime, on the CPU.

    Returns:
      A function from uint8 `[B, H, W, C]` to the logits.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run([OUTPUT], {INPUT: np.asarray(pixels)})[0]


def _in_float32(model: nnx.Module) -> nnx.Module:
    modules: list[Any] = [module for _, module in nnx.iter_modules(model)]
    for module in modules:
        if getattr(module, "dtype", None) is not None:
            module.dtype = jnp.float32
    return model


def _converter() -> Any:
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns of plugins for other libraries
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(
            f"ONNX export needs the extra 'onnx': pip install 'dwconv-jax[onnx]' ({error})"
        ) from error
    return to_onnx


def _multiply_matrices(graph: Any) -> None:
    """Turns products of maps with matrices into MatMul, which runtimes fuse with what follows."""
    for node in graph.node:
        if node.op_type != "Einsum":
            continue
        match = _LINEAR.fullmatch(node.attribute[0].s.decode())
        if match is None:
            continue
        rows, contracted, row, column, kept, last = match.groups()
        if (rows, contracted, column) == (kept, row, last):
            node.op_type = "MatMul"
            node.ClearField("attribute")

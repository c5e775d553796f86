"""Batch norms as part of the weights beside them, for inference alone."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import BatchNorm
from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.layers.weights.sources import CentreWeights, PooledWeights, StaticWeights
from dwconv_jax.models.families.blocks import DWBlock

ModelT = TypeVar("ModelT", bound=nnx.Module)


class FoldedNorm(nnx.Module):
    """Stands where a batch norm stood that its neighbour has taken over."""

    def __call__(
        self, x: jax.Array, train: bool = False, valid: jax.Array | None = None
    ) -> jax.Array:
        """`x` itself; ValueError in training, which needs the norm."""
        if train:
            raise UserError("train=True does not go with folded batch norms: train the original")
        return x


def fold_batch_norms(model: ModelT) -> ModelT:
    """A copy of a trained model whose batch norms are part of the weights before or after them.

    The copy computes the same in evaluation and cannot be trained. A norm stays where no weights
    can take it: behind a layer whose channels share weights, and on maps with several readers.
    """
    folded = nnx.clone(model)
    for _, module in list(nnx.iter_modules(folded)):
        match module:
            case DWBlock():
                _fold_block(module)
            case PooledWeights() | CentreWeights():
                _fold_norm(module, module.squeeze)
            case ConvNormAct():
                _fold_norm(module, module.conv)
    return folded


def _fold_norm(module: Any, linear: Any) -> None:
    module.norm = _fold_into(linear, module.norm)


def _fold_block(block: Any) -> None:
    block.norm_in = _fold_into(block.pointwise_in, block.norm_in)
    block.norm_out = _fold_into(block.pointwise_out, block.norm_out)
    block.norm_mixer = _fold_into_mixer(block.mixer, block.norm_mixer)
    scale, offset = block.norm_mlp.running_affine()
    linear = block.mlp.fc1
    linear.bias[...] += offset @ linear.kernel[...]
    linear.kernel[...] *= scale[:, None]
    block.norm_mlp = FoldedNorm()


def _fold_into(linear: Any, norm: BatchNorm) -> FoldedNorm:
    """Folds a norm into the linear layer or convolution whose outputs it normalises."""
    scale, offset = norm.running_affine()
    linear.kernel[...] *= jnp.expand_dims(scale, range(linear.kernel.ndim - 1))
    if linear.bias is None:
        linear.bias, linear.use_bias = nnx.Param(offset), True
    else:
        linear.bias[...] = linear.bias[...] * scale + offset
    return FoldedNorm()


def _fold_into_mixer(layer: Any, norm: BatchNorm) -> BatchNorm | FoldedNorm:
    """Folds a norm into a layer, where each channel has weights of its own; else returns it."""
    if layer.proj is not None:
        return _fold_into(layer.proj, norm)
    scale, offset = norm.running_affine()
    match layer.source:
        case StaticWeights(kernel=kernel) if kernel.shape[-1] == layer.features:
            kernel[...] *= scale[None, None, None]
        case PooledWeights(shape=(*_, groups)) if groups == layer.features:
            predict: Any = layer.source.predict
            repeated = jnp.tile(scale, predict.out_features // groups)
            predict.kernel[...] *= repeated[None]
            predict.bias[...] *= repeated
        case _:
            return norm
    layer.bias[...] = layer.bias[...] * scale + offset
    return FoldedNorm()

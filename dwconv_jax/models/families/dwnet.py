"""DWNet and its dynamic variants: the paper's networks, depth-wise convolutions in Swin's frame."""

from typing import Any

import jax
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import LocallyConnected, pointwise
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.folding import fold_after, fold_before
from dwconv_jax.layers.mode import is_training
from dwconv_jax.layers.weights import CentreWeights, PooledWeights, StaticWeights
from dwconv_jax.models.blocks.block import BlockSpec, DropPath, on_padded
from dwconv_jax.models.families.swin import frame_layout
from dwconv_jax.models.family import Family, TorchLayout, batch_norm
from dwconv_jax.models.torch_layout import Layout, conv1x1, linear, norm, raw, transposed
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Sliding


class DWBlock(nnx.Module):
    """1x1, norm, ReLU, layer, norm, ReLU, 1x1, norm; then norm and MLP (paper section 4.1).

    A squeeze-excitation gate, where there is one, follows the layer's norm and ReLU.
    """

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        features, dtypes = spec.features, spec.dtypes

        def make_norm() -> Any:
            return batch_norm(features, spec.config, rngs=rngs)

        self.pointwise_in = pointwise(features, features, use_bias=False, rngs=rngs, **dtypes)
        self.norm_in = make_norm()
        self.mixer = spec.make_mixer(rngs)
        self.norm_mixer = make_norm()
        self.gate = spec.make_gate(rngs)
        self.pointwise_out = pointwise(features, features, use_bias=False, rngs=rngs, **dtypes)
        self.norm_out = make_norm()
        self.norm_mlp = make_norm()
        self.mlp = spec.make_mlp(rngs)
        self.drop_path = DropPath(spec.drop_path_rate, rngs=rngs)
        self.map_multiple = spec.map_multiple

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        training = is_training(train, self.drop_path.deterministic)
        y = on_padded(self.mix, x, train, canvas, self.map_multiple)
        x = x + self.drop_path(y, deterministic=not training, rngs=rngs)
        y = self.mlp(self.norm_mlp(x, train, canvas.valid(x)))
        return x + self.drop_path(y, deterministic=not training, rngs=rngs)

    def mix(self, x: jax.Array, train: bool | None, canvas: Canvas = WHOLE) -> jax.Array:
        """The spatial branch, `[B, H, W, C]` to `[B, H, W, C]`."""
        valid = canvas.valid(x)
        y = jax.nn.relu(self.norm_in(self.pointwise_in(x), train, valid))
        y = jax.nn.relu(self.norm_mixer(self.mixer(y, train, canvas), train, valid))
        y = y if self.gate is None else self.gate(y, canvas)
        return self.norm_out(self.pointwise_out(y), train, valid)

    def fold_norms(self) -> None:
        """Makes the batch norms part of the layers beside them; for inference alone."""
        self.norm_in = fold_after(self.pointwise_in, self.norm_in)
        self.norm_out = fold_after(self.pointwise_out, self.norm_out)
        self.norm_mixer = self.mixer.fold_after(self.norm_mixer)
        self.norm_mlp = fold_before(self.norm_mlp, self.mlp.fc1)

    def torch_layout(self, name: str, side: int) -> Layout:
        """The block's entries in the authors' checkpoints."""
        inner = f"{name}.attn2conv"
        yield from conv1x1(self.pointwise_in, f"{inner}.conv0")
        yield from norm(self.norm_in, f"{inner}.bn0")
        yield from depthwise_layout(self.mixer, f"{inner}.conv")
        yield from norm(self.norm_mixer, f"{inner}.bn")
        yield from conv1x1(self.pointwise_out, f"{inner}.conv2")
        yield from norm(self.norm_out, f"{inner}.bn2")
        yield from linear(self.mlp.fc1, f"{name}.mlp.fc1")
        yield from linear(self.mlp.fc2, f"{name}.mlp.fc2")
        yield from norm(self.norm_mlp, f"{name}.bn")


def depthwise_layout(mixer: LocallyConnected, name: str) -> Layout:
    """A depth-wise convolution's entries: static, dynamic or i-dynamic.

    The release calls channels per group "heads" in i-dynamic models, and its dynamic weights come
    channel (group) first, `[G, K]`, where ours are `[K, G]`.

    Raises:
      UserError: for a layer that the authors' code does not have.
    """
    unknown = UserError(
        f"{name}: the authors' code has no layer with dynamic={mixer.dynamic!r} weights over "
        f"{mixer.connectivity}, so there is no PyTorch layout for it"
    )
    match mixer.connectivity:
        case Sliding(kernel_size=kernel_size, dilation=(1, 1)):
            pass
        case _:
            raise unknown
    match mixer.source:
        case StaticWeights(kernel=kernel) if kernel.shape[::3] == (1, mixer.features):
            shape = (mixer.features, 1, *kernel_size)
            yield transposed(kernel, f"{name}.weight", kernel.shape[2:], shape)
            yield raw(mixer.bias, f"{name}.bias")
        case PooledWeights(shape=(1, 1, taps, mixer.features)) as source:
            yield raw(mixer.bias, f"{name}.bias")
            yield from conv1x1(source.squeeze, f"{name}.conv1")
            yield from norm(source.norm, f"{name}.bn")
            yield from _prediction(source.predict, (taps, mixer.features), f"{name}.conv2")
        case CentreWeights() as source:
            yield from conv1x1(source.squeeze, f"{name}.conv1.0")
            yield from norm(source.norm, f"{name}.conv1.1")
            yield from _prediction(source.predict, source.shape, f"{name}.conv2.0")
        case _:
            raise unknown


def _prediction(module: nnx.Linear, taps_and_groups: tuple[int, int], name: str) -> Layout:
    """The 1x1 convolution that predicts weights: its outputs are `[G, K]` there, `[K, G]` here."""
    features_in, features_out = module.kernel.shape
    split = (features_in, *taps_and_groups)
    yield transposed(module.kernel, f"{name}.weight", split, (features_out, features_in, 1, 1))
    yield transposed(module.bias, f"{name}.bias", taps_and_groups, (features_out,))


FAMILY = Family(
    block=DWBlock, output_norm=batch_norm, layouts={"official": TorchLayout(frame_layout)}
)

_STATIC = dict(connectivity="sliding", dynamic="none")
_POOLED = dict(connectivity="sliding", dynamic="pooled")


def _centre(*channels_per_group: int) -> dict[str, Any]:
    return dict(connectivity="sliding", dynamic="centre", channels_per_group=channels_per_group)


_TINY: dict[str, Any] = dict(family=FAMILY, embed_dim=96, depths=(2, 2, 6, 2))
_BASE: dict[str, Any] = dict(family=FAMILY, embed_dim=128, depths=(2, 2, 18, 2))

VARIANTS = {
    "dwnet_tiny": Variant(
        mixer=_STATIC, **_TINY,
        num_params=24_172_744, gmacs=3.73, accuracy=81.2,
        upernet_params=55_826_252, cascade_mask_rcnn_params=81_514_194,
    ),
    "dwnet_base": Variant(
        mixer=_STATIC, **_BASE,
        num_params=74_347_112, gmacs=12.81, accuracy=83.2,
        upernet_params=107_858_604, cascade_mask_rcnn_params=131_555_890,
    ),
    "dynamic_dwnet_tiny": Variant(
        mixer=_POOLED, **_TINY,
        num_params=51_131_752, gmacs=3.75, accuracy=81.8,
        upernet_params=82_785_260, cascade_mask_rcnn_params=108_473_202,
    ),
    "dynamic_dwnet_base": Variant(
        mixer=_POOLED, **_BASE,
        num_params=161_597_928, gmacs=12.90, accuracy=83.2,
        upernet_params=195_109_420, cascade_mask_rcnn_params=218_806_706,
    ),
    "i_dynamic_dwnet_tiny": Variant(
        mixer=_centre(3, 6, 12, 24), **_TINY,
        num_params=26_244_280, gmacs=4.37,
        upernet_params=57_897_788, cascade_mask_rcnn_params=83_585_730,
    ),
    "i_dynamic_dwnet_base": Variant(
        mixer=_centre(4, 8, 16, 32), **_BASE,
        num_params=80_253_608, gmacs=14.34,
        upernet_params=113_765_100, cascade_mask_rcnn_params=137_462_386,
    ),
}  # fmt: skip

ALIASES: dict[str, str] = {}

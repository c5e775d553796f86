"""EfficientNet-Lite (Tan and Le, 2019): static 3x3 and 5x5 kernels between 1x1 convolutions."""

import math
import re
import types
from collections.abc import Callable
from typing import Any, cast

import jax
from flax import nnx

from dwconv_jax.layers import DepthwiseConv, LocallyConnected, SqueezeExcitation
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.layers.dense import product_over_channels
from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.layers.folding import fold_after
from dwconv_jax.layers.initializers import fan_out_init, normal
from dwconv_jax.layers.mode import is_training
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec, DropPath, on_padded
from dwconv_jax.models.blocks.mbconv import EPSILON
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import refuse_gate
from dwconv_jax.models.family import Family, TorchLayout, batch_norm
from dwconv_jax.models.torch_layout import Layout, conv, conv1x1, depthwise, linear, norm, renamed
from dwconv_jax.models.variant import Variant


class Pointwise(nnx.Module):
    """1x1 convolution, batch norm, and ReLU6 if wanted."""

    def __init__(
        self, inputs: int, features: int, config: BackboneConfig, rngs: nnx.Rngs, relu6: bool = True
    ):
        self.out_features, self.relu6 = features, relu6
        self.conv = nnx.Linear(
            inputs, features, use_bias=False, kernel_init=fan_out_init, rngs=rngs,
            dot_general=product_over_channels, promote_dtype=keep_input_dtype, **config.dtypes,
        )  # fmt: skip
        self.norm: Any = batch_norm(features, config, epsilon=EPSILON)

    def __call__(
        self, x: jax.Array, train: bool | None = None, valid: jax.Array | None = None
    ) -> jax.Array:
        """`[B, H, W, inputs]` to `[B, H, W, features]`; for `valid` see `BatchNorm`."""
        x = self.norm(self.conv(x), train, valid)
        return jax.nn.relu6(x) if self.relu6 else x

    def fold_norms(self) -> None:
        """Makes the norm part of the convolution; for inference alone."""
        self.norm = fold_after(self.conv, self.norm)


class InvertedBottleneck(nnx.Module):
    """1x1 to more channels, the layer, 1x1 to fewer; ReLU6 before and after the layer.

    A layer that downsamples is a depth-wise convolution, whatever the mixer is. A
    squeeze-excitation gate, where there is one, follows the layer (EfficientNet has it, Lite not).
    """

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        config = spec.config
        ratio = config.at_stage("mlp_ratio", config.mlp_ratio, spec.stage)
        hidden = int(spec.in_features * ratio)
        self.expand: Any = nnx.data(None)
        if hidden != spec.in_features:
            self.expand = Pointwise(spec.in_features, hidden, config, rngs)
        self.mixer = make_mixer(spec, hidden, rngs)
        self.norm: Any = batch_norm(hidden, config, epsilon=EPSILON)
        self.gate: Any = nnx.data(None)
        if config.squeeze_excitation:
            self.gate = SqueezeExcitation(hidden, rngs=rngs, **config.dtypes)
        self.project = Pointwise(hidden, spec.features, config, rngs, relu6=False)
        self.residual = spec.stride == 1 and spec.in_features == spec.features
        # The original divides by the number of blocks, so that the last is below the rate.
        depth = sum(config.depths)
        self.drop_path = DropPath(spec.drop_path_rate * (depth - 1) / depth, rngs=rngs)
        self.stride, self.map_multiple = spec.stride, spec.map_multiple

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`."""
        y = x if self.expand is None else self.expand(x, train, canvas.valid(x))
        if isinstance(self.mixer, DepthwiseConv):
            y = self.mixer(canvas.clear(y))
        else:
            y = on_padded(self.mixer, y, train, canvas, self.map_multiple)
        canvas = canvas.strided(self.stride)
        y = jax.nn.relu6(self.norm(y, train, canvas.valid(y)))
        y = y if self.gate is None else self.gate(y, canvas)
        y = self.project(y, train, canvas.valid(y))
        if not self.residual:
            return y
        training = is_training(train, self.drop_path.deterministic)
        return x + self.drop_path(y, deterministic=not training, rngs=rngs)

    def fold_norms(self) -> None:
        """Makes the norm behind the layer part of it; for inference alone."""
        if isinstance(self.mixer, DepthwiseConv):
            self.norm = fold_after(self.mixer, self.norm)
        else:
            self.norm = self.mixer.fold_after(self.norm)

    def parts(self) -> list[Any]:
        """What has a convolution `conv` and behind it a batch norm `norm`, in their order."""
        layer = types.SimpleNamespace(conv=self.mixer, norm=self.norm)
        return [*([] if self.expand is None else [self.expand]), layer, self.project]


def make_mixer(spec: BlockSpec, features: int, rngs: nnx.Rngs) -> DepthwiseConv | LocallyConnected:
    """The layer of a block, without a bias, which the norm behind it has."""
    mixer: Any
    if spec.stride > 1:
        size = spec.mixer["kernel_size"]
        mixer = DepthwiseConv(
            features, size, stride=spec.stride, use_bias=False, rngs=rngs, **spec.dtypes
        )
        kernel = mixer.kernel
    else:
        mixer = spec.make_mixer(rngs, features=features)
        mixer.bias = nnx.data(None)
        kernel = getattr(mixer.source, "kernel", None)
    if kernel is not None:
        init = normal(math.sqrt(2 * features / kernel.size))
        kernel.set_value(init(rngs.params(), kernel.shape, kernel.dtype))
    return mixer


class Stem(ConvNormAct):
    """3x3 convolution of stride 2, batch norm, ReLU6."""

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        self.stride = config.patch_size
        norm = dict(epsilon=EPSILON, group_size=config.batch_norm_group_size)
        options: dict[str, Any] = norm | config.dtypes
        inputs, stride = config.in_channels, config.patch_size
        super().__init__(
            inputs, 32, 3, stride=stride, padding="SAME", activation="relu6", rngs=rngs, **options
        )

    def __call__(  # type: ignore[override]
        self, images: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / 2), ceil(W / 2), 32]`."""
        y = self.conv(images)
        return self.activate(y, train, canvas.strided(self.stride).valid(y))


def head_features(features: int, config: BackboneConfig, *, rngs: nnx.Rngs) -> Pointwise:
    """The 1x1 convolution before the mean over positions."""
    return Pointwise(features, 1280, config, rngs)


def timm_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in timm."""
    del side
    yield from _conv_norm(backbone.patch_embed, "conv_stem", "bn1")
    for i, stage in enumerate(backbone.stages):
        for j, block in enumerate(cast(Any, stage.blocks)):
            refuse_gate(block, f"blocks.{i}.{j}")
            convs = "conv_dw conv_pw" if block.expand is None else "conv_pw conv_dw conv_pwl"
            for k, (part, name) in enumerate(zip(block.parts(), convs.split(), strict=True), 1):
                yield from _conv_norm(part, f"blocks.{i}.{j}.{name}", f"blocks.{i}.{j}.bn{k}")


def lite_pytorch_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in the package efficientnet_lite_pytorch."""
    del side
    yield from _conv_norm(backbone.patch_embed, "_conv_stem", "_bn0")
    blocks = (block for stage in backbone.stages for block in cast(Any, stage.blocks))
    for i, block in enumerate(blocks):
        refuse_gate(block, f"_blocks.{i}")
        parts = block.parts()
        names = ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")
        for part, (conv_name, norm_name) in zip(parts, names[-len(parts) :], strict=True):
            yield from _conv_norm(part, f"_blocks.{i}.{conv_name}", f"_blocks.{i}.{norm_name}")


def _conv_norm(part: Any, name: str, norm_name: str) -> Layout:
    layouts: dict[type, Callable[[Any, str], Layout]] = {nnx.Conv: conv, nnx.Linear: conv1x1}
    yield from layouts.get(type(part.conv), depthwise)(part.conv, name)
    yield from norm(part.norm, norm_name)


def timm_top(classifier: Any) -> Layout:
    """The entries of a classifier beyond those of its backbone, in timm."""
    yield from _conv_norm(classifier.norm, "conv_head", "bn2")
    if classifier.head is not None:
        yield from linear(classifier.head, "classifier")


def lite_pytorch_top(classifier: Any) -> Layout:
    """The entries of a classifier beyond those of its backbone, in efficientnet_lite_pytorch."""
    rules = [("^conv_head", "_conv_head"), ("^bn2", "_bn1"), ("^classifier", "_fc")]
    yield from renamed(timm_top(classifier), rules)


FAMILY = Family(
    block=InvertedBottleneck,
    stem=Stem,
    downsample=None,
    strides=(1, 2, 2, 2, 1, 2, 1),
    first_map=1,
    output_norm=None,
    norm=head_features,
    layouts={
        "timm": TorchLayout(timm_body, timm_top, re.compile(r"(conv_head|bn2|classifier)\.")),
        "efficientnet_lite_pytorch": TorchLayout(
            lite_pytorch_body, lite_pytorch_top, re.compile(r"(_conv_head|_bn1|_fc)\.")
        ),
    },
)


def _lite(widths: tuple[int, ...], depths: tuple[int, ...], **known: Any) -> Variant:
    return Variant(
        family=FAMILY, embed_dim=widths, depths=depths,
        mixer=dict(connectivity="sliding", dynamic="none", kernel_size=(3, 3, 5, 3, 5, 5, 3)),
        config=dict(patch_size=2, mlp_ratio=(1, 6, 6, 6, 6, 6, 6)),
        **known,
    )  # fmt: skip


VARIANTS = {
    "efficientnet_lite0": _lite(
        (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1),
        image_size=224, num_params=4_652_008, gmacs=0.41, accuracy=75.1,
    ),
    "efficientnet_lite1": _lite(
        (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1),
        image_size=240, num_params=5_416_680, gmacs=0.62, accuracy=76.7,
    ),
    "efficientnet_lite2": _lite(
        (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1),
        image_size=260, num_params=6_092_072, gmacs=0.89, accuracy=77.6,
    ),
    "efficientnet_lite3": _lite(
        (24, 32, 48, 96, 136, 232, 384), (1, 3, 3, 5, 5, 6, 1),
        image_size=280, num_params=8_197_096, gmacs=1.43, accuracy=79.8,
    ),
    "efficientnet_lite4": _lite(
        (24, 32, 56, 112, 160, 272, 448), (1, 4, 4, 6, 6, 8, 1),
        image_size=300, num_params=13_006_568, gmacs=2.6, accuracy=81.5,
    ),
}  # fmt: skip

ALIASES = {f"tf_{name}": name for name in VARIANTS}

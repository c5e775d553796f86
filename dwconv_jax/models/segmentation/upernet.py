"""UPerNet (Xiao et al., 2018): segmentation from all four maps of a backbone, as in mmseg."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.layers.initializers import normal
from dwconv_jax.layers.mode import is_training
from dwconv_jax.layers.pooling import adaptive_mean
from dwconv_jax.models.config import BackboneConfig, check_int, check_rate
from dwconv_jax.models.dense_backbone import DenseBackbone
from dwconv_jax.models.family import Family
from dwconv_jax.models.head import Head
from dwconv_jax.models.recipe import Recreatable
from dwconv_jax.models.torch_layout import Layout, conv1x1, conv_norm_act, prefixed

POOL_SIZES = (1, 2, 3, 6)
_AUXILIARY_STAGE = 2


class PixelClassifier(nnx.Module):
    """Dropout of whole channels, then logits at every position."""

    def __init__(
        self, features: int, num_classes: int, dropout_rate: float, *, rngs: nnx.Rngs, **dtypes: Any
    ):
        self.dropout = nnx.Dropout(
            dropout_rate,
            broadcast_dims=(1, 2),
            deterministic=True,
            rngs=rngs if dropout_rate else None,
        )
        self.linear = nnx.Linear(
            features, num_classes, kernel_init=normal(0.01), rngs=rngs, **dtypes
        )

    def __call__(self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        """`[B, H, W, C]` to float32 `[B, H, W, num_classes]`."""
        training = is_training(train, self.dropout.deterministic)
        x = self.dropout(x, deterministic=not training, rngs=rngs)
        return self.linear(x).astype(jnp.float32)


class PyramidPooling(nnx.Module):
    """Concatenates averages of the map over 1, 4, 9 and 36 regions (PSPNet)."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs, **dtypes: Any):
        self.levels = nnx.List(
            [ConvNormAct(in_features, features, 1, rngs=rngs, **dtypes) for _ in POOL_SIZES]
        )
        pooled = in_features + len(POOL_SIZES) * features
        self.fuse = ConvNormAct(pooled, features, 3, rngs=rngs, **dtypes)

    def __call__(self, x: jax.Array, train: bool | None) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, H, W, C]`."""
        pooled = [
            resize(level(adaptive_mean(x, size), train), x.shape[1:3])
            for level, size in zip(self.levels, POOL_SIZES, strict=True)
        ]
        return self.fuse(jnp.concatenate([x, *pooled], axis=-1), train)


class UPerHead(nnx.Module):
    """Pyramid pooling on the coarsest map, then a feature pyramid down to the finest."""

    def __init__(
        self,
        widths: Sequence[int],
        features: int,
        num_classes: int,
        dropout_rate: float,
        *,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        *finer, coarsest = widths
        self.pooling = PyramidPooling(coarsest, features, rngs=rngs, **dtypes)
        self.laterals = nnx.List(
            [ConvNormAct(width, features, 1, rngs=rngs, **dtypes) for width in finer]
        )
        self.outputs = nnx.List(
            [ConvNormAct(features, features, 3, rngs=rngs, **dtypes) for _ in finer]
        )
        self.fuse = ConvNormAct(len(widths) * features, features, 3, rngs=rngs, **dtypes)
        self.classifier = PixelClassifier(features, num_classes, dropout_rate, rngs=rngs, **dtypes)

    def __call__(
        self, maps: Sequence[jax.Array], train: bool | None, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """Maps of the backbone, finest first, to logits at the size of the first."""
        *finer, coarsest = maps
        top = self.pooling(coarsest, train)
        laterals = [lateral(x, train) for lateral, x in zip(self.laterals, finer, strict=True)]
        coarser, pyramid = top, [top]
        for lateral, output in zip(reversed(laterals), reversed(self.outputs), strict=True):
            coarser = lateral + resize(coarser, lateral.shape[1:3])
            pyramid.insert(0, output(coarser, train))
        levels = [resize(level, pyramid[0].shape[1:3]) for level in pyramid]
        return self.classifier(self.fuse(jnp.concatenate(levels, axis=-1), train), train, rngs)

    def torch_layout(self) -> Layout:
        """The head's entries in mmseg's checkpoints."""
        yield from conv1x1(self.classifier.linear, "conv_seg")
        for i, level in enumerate(self.pooling.levels):
            yield from conv_norm_act(level, f"psp_modules.{i}.1")
        yield from conv_norm_act(self.pooling.fuse, "bottleneck")
        for i, lateral in enumerate(self.laterals):
            yield from conv_norm_act(lateral, f"lateral_convs.{i}")
        for i, output in enumerate(self.outputs):
            yield from conv_norm_act(output, f"fpn_convs.{i}")
        yield from conv_norm_act(self.fuse, "fpn_bottleneck")


class FCNHead(nnx.Module):
    """One 3x3 convolution and logits: the auxiliary head, which only training uses."""

    def __init__(
        self,
        in_features: int,
        features: int,
        num_classes: int,
        dropout_rate: float,
        *,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.conv = ConvNormAct(in_features, features, 3, rngs=rngs, **dtypes)
        self.classifier = PixelClassifier(features, num_classes, dropout_rate, rngs=rngs, **dtypes)

    def __call__(self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        """`[B, H, W, C]` to logits `[B, H, W, num_classes]`."""
        return self.classifier(self.conv(x, train), train, rngs)

    def torch_layout(self) -> Layout:
        """The head's entries in mmseg's checkpoints."""
        yield from conv1x1(self.classifier.linear, "conv_seg")
        yield from conv_norm_act(self.conv, "convs.0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UPerNetConfig(BackboneConfig):
    """The overrides of UPerNet.

    Attributes:
      num_classes: classes of a pixel.
      head_features: channels inside the UPer head.
      auxiliary_features: channels inside the auxiliary head.
      dropout_rate: share of the channels that both heads drop in training.
    """

    num_classes: int = 150
    head_features: int = 512
    auxiliary_features: int = 256
    dropout_rate: float = 0.1

    def __post_init__(self) -> None:
        """Raises a UserError that names the first field outside its range."""
        super().__post_init__()
        for name in ("num_classes", "head_features", "auxiliary_features"):
            check_int(name, getattr(self, name), 1)
        check_rate("dropout_rate", self.dropout_rate)


class UPerNet(Recreatable, nnx.Module):
    """A backbone with a UPer head, and an auxiliary head on its third map."""

    Config = UPerNetConfig
    HEAD = Head(
        names=re.compile(r"(decode|auxiliary)_head(\.conv_seg\.|/classifier/)"),
        last_biases=("decode_head.conv_seg.bias", "decode_head/classifier/linear/bias"),
    )

    def __init__(
        self,
        family: Family,
        mixer: Mapping[str, Any],
        config: UPerNetConfig,
        *,
        rngs: nnx.Rngs,
    ):
        """Builds the model; see `Backbone` for the arguments.

        Raises:
          UserError: for a backbone of fewer than three stages.
        """
        self.num_classes = config.num_classes
        self.backbone = DenseBackbone(family, mixer, config, rngs=rngs)
        widths = self.backbone.widths
        if len(widths) <= _AUXILIARY_STAGE:
            raise UserError(
                f"UPerNet needs at least {_AUXILIARY_STAGE + 1} stages, got depths={config.depths}"
            )
        shared: dict[str, Any] = dict(
            num_classes=config.num_classes,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
            **config.dtypes,
        )
        self.decode_head = UPerHead(widths, config.head_features, **shared)
        self.auxiliary_head = FCNHead(widths[_AUXILIARY_STAGE], config.auxiliary_features, **shared)

    def __call__(
        self, images: jax.Array, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits of every pixel.

        Args:
          images: `[B, H, W, in_channels]`, floating, any `H` and `W`.
          train: use batch statistics (and update the running ones), dropout and stochastic depth;
            None follows `model.train()` and `model.eval()`.
          rngs: keys for dropout and stochastic depth; None for the model's own.

        Returns:
          float32 `[B, H, W, num_classes]`.
        """
        maps = self.features(images, train, rngs)
        return resize(self.decode_head(maps, train, rngs), images.shape[1:3])

    def features(
        self, images: jax.Array, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, ...]:
        """The maps of the backbone; see `DenseBackbone.features`."""
        return self.backbone.features(images, train, rngs)

    def head_logits(
        self, images: jax.Array, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Logits of the UPer head (stride 4) and of the auxiliary head (stride 16)."""
        maps = self.features(images, train, rngs)
        return (
            self.decode_head(maps, train, rngs),
            self.auxiliary_head(maps[_AUXILIARY_STAGE], train, rngs),
        )

    def torch_layout(self, image_size: int | None = None, layout: str | None = None) -> Layout:
        """The entries of the authors' (mmseg's) checkpoints, in their order."""
        yield from prefixed("backbone", self.backbone.torch_layout(image_size, layout))
        yield from prefixed("decode_head", self.decode_head.torch_layout())
        yield from prefixed("auxiliary_head", self.auxiliary_head.torch_layout())


def resize(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Bilinear resizing like PyTorch's `interpolate`: half-pixel centers, no antialiasing."""
    shape = (x.shape[0], *size, x.shape[3])
    return x if shape == x.shape else jax.image.resize(x, shape, "bilinear", antialias=False)

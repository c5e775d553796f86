"""Image classification: the backbone, a final norm, the mean over positions, a linear head."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import LayerNorm, linear
from dwconv_jax.models import torch_layout
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.block import Block
from dwconv_jax.models.config import BackboneConfig, check_int
from dwconv_jax.models.head import Head


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig(BackboneConfig):
    """The overrides of a classifier.

    Attributes:
      num_classes: outputs of the head; 0 for none, so that the model returns pooled features.
    """

    num_classes: int = 1000

    def __post_init__(self) -> None:
        """Raises a UserError that names the first field outside its range."""
        super().__post_init__()
        check_int("num_classes", self.num_classes, 0)


class Classifier(Backbone):
    """A backbone with a head; `features` gives its maps."""

    Config = ClassifierConfig
    HEAD = Head(
        names=re.compile(r"head[./]"),
        last_biases=("head.bias", "head/bias"),
    )

    def __init__(
        self,
        block: type[Block],
        mixer: Mapping[str, Any],
        config: ClassifierConfig,
        *,
        rngs: nnx.Rngs,
    ):
        """Builds the backbone (see `Backbone`) and a head of `num_classes` outputs."""
        super().__init__(block, mixer, config, rngs=rngs)
        self.num_classes = config.num_classes
        self.norm = LayerNorm(self.widths[-1], rngs=rngs, **config.dtypes)
        self.head = nnx.data(None)
        if config.num_classes:
            self.head = linear(self.widths[-1], config.num_classes, rngs=rngs, **config.dtypes)

    def __call__(
        self, images: jax.Array, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits of the images, or their pooled features without a head.

        Args:
          images: `[B, H, W, in_channels]`, floating, any `H` and `W`.
          train: use batch statistics (and update the running ones) and stochastic depth; None
            follows `model.train()` and `model.eval()`.
          rngs: keys for stochastic depth; None for the model's own.

        Returns:
          float32 `[B, num_classes]`; `[B, C]` of the last stage if `num_classes` is 0.
        """
        x = self.norm(self.features(images, train, rngs)[-1])
        pooled = x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)
        return (pooled if self.head is None else self.head(pooled)).astype(jnp.float32)

    def torch_layout(self, image_size: int | None = 224) -> torch_layout.Layout:
        """The entries of the authors' checkpoints, in their order.

        Args:
          image_size: of Swin's attention masks, which its state dict holds for one size.

        Raises:
          UserError: for a mixer that the authors' code does not have.
        """
        yield from super().torch_layout(image_size)
        yield from torch_layout.norm(self.norm, "norm")
        if self.head is not None:
            yield from torch_layout.linear(self.head, "head")

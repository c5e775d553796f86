"""Image classification: a backbone, a final norm, the mean over positions, a linear head."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import linear
from dwconv_jax.layers.initializers import redraw
from dwconv_jax.models import torch_layout
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.config import BackboneConfig, check_int
from dwconv_jax.models.family import Family
from dwconv_jax.models.head import Head
from dwconv_jax.models.recipe import Recreatable


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


class Classifier(Recreatable, Backbone):
    """A backbone with a head; `features` gives its maps."""

    Config = ClassifierConfig
    HEAD = Head(
        names=re.compile(r"(head|head\.fc|fc|_fc|classifier)[./](weight|bias|kernel)\b"),
        last_biases=(
            "head.bias",
            "head.fc.bias",
            "fc.bias",
            "_fc.bias",
            "classifier.bias",
            "head/bias",
        ),
    )

    def __init__(
        self,
        family: Family,
        mixer: Mapping[str, Any],
        config: ClassifierConfig,
        *,
        rngs: nnx.Rngs,
    ):
        """Builds the backbone (see `Backbone`) and a head of `num_classes` outputs."""
        super().__init__(family, mixer, config, rngs=rngs)
        self.num_classes = config.num_classes
        width = self.widths[-1]
        self.norm: Any = nnx.data(family.norm and family.norm(width, config, rngs=rngs))
        width = getattr(self.norm, "out_features", width)
        self.neck: Any = nnx.data(family.neck and family.neck(width, config, rngs=rngs))
        width = getattr(self.neck, "out_features", width)
        self.head: Any = nnx.data(None)
        if config.num_classes:
            self.head = linear(width, config.num_classes, rngs=rngs, **config.dtypes)
            if family.head_init is not None:
                redraw(self.head.kernel, family.head_init, rngs=rngs)

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
        return self.classify(self.last_map(images, train, rngs), train)

    def last_map(
        self, images: jax.Array, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """The normalized map of the last stage, `[B, h, w, C]`; see `__call__`."""
        x = self.features(images, train, rngs)[-1]
        return x if self.norm is None else self.norm(x, train)

    def classify(self, x: jax.Array, train: bool | None = None) -> jax.Array:
        """The logits of what `last_map` returns; see `__call__`."""
        pooled = x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)
        pooled = pooled if self.neck is None else self.neck(pooled, train)
        return (pooled if self.head is None else self.head(pooled)).astype(jnp.float32)

    def torch_layout(
        self, image_size: int | None = 224, layout: str | None = None
    ) -> torch_layout.Layout:
        """The entries of PyTorch checkpoints, in their order; see `Backbone.torch_layout`."""
        yield from super().torch_layout(image_size, layout)
        yield from self.torch_names(layout).top(self)

"""The backbone of segmentation and detection: padded to windows, each output normalized."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.models import torch_layout
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.family import Family


class DenseBackbone(Backbone):
    """A backbone for dense prediction, as in the authors' segmentation and detection code.

    It differs from the classifier's in two ways. Before the layer of every block of DWNet and Swin
    the map is padded to a multiple of the window, and cropped after it; the padding is zero only
    there, since the batch norm and the attention that follow see it. And each of the maps that
    `features` returns passes a norm of its own, the family's `output_norm`, which the next stage
    does not see.
    """

    def __init__(
        self,
        family: Family,
        mixer: Mapping[str, Any],
        config: BackboneConfig,
        *,
        rngs: nnx.Rngs,
    ):
        """Builds the stages (see `Backbone`) and a norm for each of them."""
        super().__init__(family, mixer, config, pad_to_window=True, rngs=rngs)
        make_norm = family.output_norm
        norms = [make_norm(width, config, rngs=rngs) for width in self.widths] if make_norm else []
        self.output_norms = nnx.List(norms)

    def features(
        self,
        images: jax.Array,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
        canvas: Canvas = WHOLE,
    ) -> tuple[jax.Array, ...]:
        """The normalized feature map at the end of each stage; see `Backbone.features`."""
        maps = super().features(images, train, rngs, canvas)
        if not self.output_norms:
            return maps
        owns = [canvas.strided(stride) for stride in self.strides]
        return tuple(
            own.clear(norm(x, train, own.valid(x)))
            for norm, x, own in zip(self.output_norms, maps, owns, strict=True)
        )

    def torch_layout(
        self, image_size: int | None = None, layout: str | None = None
    ) -> torch_layout.Layout:
        """The entries of a backbone of mmseg and mmdet, which hold nothing for one image size."""
        yield from super().torch_layout(None, layout)
        for i, output_norm in enumerate(self.output_norms):
            yield from torch_layout.norm(output_norm, f"norm{i}")

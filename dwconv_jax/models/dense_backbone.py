"""The backbone as segmentation and detection use it: padded to windows, each output normalised."""

from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers import BatchNorm
from dwconv_jax.layers.canvas import inside, keep_inside
from dwconv_jax.models.backbone import Backbone


class DenseBackbone(Backbone):
    """A backbone for dense prediction, as in the authors' segmentation and detection code.

    It differs from the classifier's in two ways. Before the layer of every block the map is padded
    to a multiple of the window, and cropped after it; the padding is zero only there, since the
    batch norm and the attention that follow see it. And each of the maps that `features` returns
    passes a norm of its own, batch norm in DWNet and layer norm in Swin, which the next stage does
    not see.
    """

    def __init__(self, *, rngs: nnx.Rngs, **backbone: Any):
        """Builds the stages (see `Backbone` for the arguments) and a norm for each of them."""
        super().__init__(pad_to_window=True, rngs=rngs, **backbone)
        dtypes = {k: backbone[k] for k in ("dtype", "param_dtype") if k in backbone}
        embed_dim = backbone["embed_dim"]
        self.widths = tuple(embed_dim * 2**i for i in range(len(self.stages)))
        norms: list[nnx.LayerNorm | BatchNorm]
        if backbone["block"] == "swin":
            norms = [nnx.LayerNorm(n, epsilon=1e-5, rngs=rngs, **dtypes) for n in self.widths]
        else:
            group_size = backbone.get("batch_norm_group_size")
            norms = [BatchNorm(n, group_size=group_size, **dtypes) for n in self.widths]
        self.output_norms = nnx.List(norms)

    def features(
        self,
        images: jax.Array,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
        extent: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        """The normalised feature map at the end of each stage; see `Backbone.features`."""
        maps = super().features(images, train, rngs, extent)
        normalised = []
        for norm, x, own in zip(self.output_norms, maps, self.extents(extent), strict=True):
            if isinstance(norm, BatchNorm):
                x = norm(x, train, None if own is None else inside(own, x.shape[1:3]))
            else:
                x = norm(x)
            normalised.append(keep_inside(x, own))
        return tuple(normalised)

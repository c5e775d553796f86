"""A named variant of a family: how its backbone differs, and what is known of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dwconv_jax.models.family import Family


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of a family's table.

    Attributes:
      family: the parts of the backbone.
      mixer: flags of the locally connected layer, each a value or a sequence with one for each
        stage.
      embed_dim: channels of the first stage, which double with every stage; or those of each.
      depths: blocks of each stage.
      config: other fields of `BackboneConfig` in which the variant differs from its defaults.
      image_size: of the images that it was published for.
      num_params: exact number of parameters with 1,000 classes.
      gmacs: multiply-adds at `image_size` in units of 1e9, without norms and activations.
      accuracy: published top-1 accuracy on ImageNet-1K at `image_size`, in percent; None if none
        is known.
      source: of the accuracy: the network's authors or timm, and the other data set that training
        started on, if any.
      upernet_params: exact number of parameters of UPerNet on it, with ADE20K's 150 classes; None
        where no paper has it.
      cascade_mask_rcnn_params: likewise of Cascade Mask R-CNN, with COCO's 80 classes.
    """

    family: Family
    mixer: Mapping[str, Any]
    embed_dim: int | tuple[int, ...]
    depths: tuple[int, ...]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_size: int = 224
    num_params: int
    gmacs: float
    accuracy: float | None = None
    source: str = "authors"
    upernet_params: int | None = None
    cascade_mask_rcnn_params: int | None = None

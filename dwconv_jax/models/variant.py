"""A named variant of a family: how its backbone differs, and what is known of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dwconv_jax.models.block import Block


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of a family's table.

    Attributes:
      block: what stands around the locally connected layer.
      mixer: flags of that layer, each a value or a sequence with one for each stage.
      embed_dim: channels of the first stage.
      depths: blocks of each stage.
      num_params: exact number of parameters with 1,000 classes.
      gmacs: multiply-adds at 224x224 in units of 1e9, without norms and activations.
      paper_params_m: the paper's rounded column, in millions.
      paper_gflops: the paper's rounded column, in units of 1e9.
      upernet_params: exact number of parameters of UPerNet on it, with ADE20K's 150 classes.
      cascade_mask_rcnn_params: likewise of Cascade Mask R-CNN, with COCO's 80 classes.
    """

    block: type[Block]
    mixer: Mapping[str, Any]
    embed_dim: int
    depths: tuple[int, ...]
    num_params: int
    gmacs: float
    paper_params_m: int
    paper_gflops: float
    upernet_params: int
    cascade_mask_rcnn_params: int

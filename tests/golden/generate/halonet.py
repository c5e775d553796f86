"""Golden numbers of HaloNet: python tests/golden/generate/halonet.py FOLDER."""

import dataclasses

from record import NUM_CLASSES, record
from timm.models.byoanet import model_cfgs
from timm.models.byobnet import ByoBlockCfg, ByobNet

WIDTHS, HEADS, BLOCK, HALO, STEM, FEATURES = (32, 32, 64, 64), 2, 4, 1, 16, 48


def one_of_each(stage: ByoBlockCfg | tuple[ByoBlockCfg, ...], width: int) -> list[ByoBlockCfg]:
    """A narrow block of each kind of a stage."""
    kinds = {block.type: block for block in (stage if isinstance(stage, tuple) else (stage,))}
    return [dataclasses.replace(block, d=1, c=width) for block in kinds.values()]


for name in ("halonet26t", "sehalonet33ts"):
    published = model_cfgs[name]
    blocks = [one_of_each(*stage) for stage in zip(published.blocks, WIDTHS, strict=True)]
    config = dataclasses.replace(
        published,
        blocks=tuple(map(tuple, blocks)),
        stem_chs=STEM,
        num_features=published.num_features and FEATURES,
        self_attn_kwargs=dict(block_size=BLOCK, halo_size=HALO, num_heads=HEADS),
    )
    model = ByobNet(config, num_classes=NUM_CLASSES)
    record(
        name,
        model,
        # At strides 4, 8, 16 and 32, the last before the final convolution.
        lambda x, model=model: model.forward_intermediates(
            x, [1, 2, 3, 4], intermediates_only=True, exclude_final_conv=True
        ),
        dict(widths=WIDTHS, num_heads=HEADS, block_size=BLOCK, halo_size=HALO, stem_features=STEM,
             num_features=config.num_features,
             kinds=[[block.type for block in stage] for stage in blocks]),
        even=(2, 3, 64, 64),
        odd=(2, 3, 61, 125),
    )  # fmt: skip

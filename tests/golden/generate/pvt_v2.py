"""Golden numbers of PVT v2: python tests/golden/generate/pvt_v2.py FOLDER."""

from record import NUM_CLASSES, record
from timm.models.pvt_v2 import PyramidVisionTransformerV2

SIZES = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4))
MLP_RATIOS = (4, 4, 2, 2)

for name, linear in {"pvt_v2": False, "pvt_v2_li": True}.items():
    model = PyramidVisionTransformerV2(
        num_classes=NUM_CLASSES, **SIZES, mlp_ratios=MLP_RATIOS, linear=linear
    )
    record(
        name,
        model,
        lambda x, model=model: model.forward_intermediates(x, intermediates_only=True),
        SIZES,
        odd=(3, 3, 42, 71),
    )

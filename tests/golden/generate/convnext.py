"""Golden numbers of ConvNeXt and ConvNeXt V2: python tests/golden/generate/convnext.py FOLDER."""

from record import NUM_CLASSES, record
from timm.models.convnext import ConvNeXt

DIMS, DEPTHS = (8, 16, 32, 64), (1, 1, 2, 1)
OPTIONS = {
    "convnext": dict(),
    "convnextv2": dict(use_grn=True, ls_init_value=None),
}

for name, options in OPTIONS.items():
    model = ConvNeXt(num_classes=NUM_CLASSES, dims=DIMS, depths=DEPTHS, **options)
    record(
        name,
        model,
        lambda x, model=model: model.forward_intermediates(x, intermediates_only=True),
        dict(embed_dim=DIMS[0], depths=DEPTHS),
    )

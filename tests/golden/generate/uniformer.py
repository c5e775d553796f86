"""Golden numbers of UniFormer: python tests/golden/generate/uniformer.py FOLDER REPOSITORY.

REPOSITORY is a copy of Sense-X/UniFormer.
"""

import sys

from record import NUM_CLASSES, record

sys.path.insert(0, f"{sys.argv[2]}/image_classification/models")

from uniformer import UniFormer

SIZES = dict(embed_dim=(8, 16, 24, 32), depths=(1, 1, 1, 1))


def stages(model, x):
    set_size(model, x.shape[2:])
    for i in range(1, 5):
        x = getattr(model, f"patch_embed{i}")(x)
        for block in getattr(model, f"blocks{i}"):
            x = block(x)
        yield x


def set_size(model, size):
    """Lets a model take images of a size other than the one it was built for."""
    for i, stride in enumerate((1, 4, 8, 16)):
        embed = getattr(model, f"patch_embed{i + 1}")
        embed.img_size = tuple(side // stride for side in size)


for name, conv_stem in {"uniformer": False, "uniformer_plus": True}.items():
    model = UniFormer(
        depth=SIZES["depths"], embed_dim=SIZES["embed_dim"], head_dim=8, mlp_ratio=2,
        num_classes=NUM_CLASSES, conv_stem=conv_stem,
    )  # fmt: skip
    if not conv_stem:
        model.register_forward_pre_hook(lambda model, args: set_size(model, args[0].shape[2:]))
    record(
        name,
        model,
        lambda x, model=model: list(stages(model, x)),
        SIZES,
        odd=(3, 3, 41, 70) if conv_stem else (3, 3, 32, 64),
    )

"""Golden numbers of Swin-MLP: python tests/golden/generate/swin_mlp.py FOLDER REPOSITORY.

REPOSITORY is a copy of microsoft/Swin-Transformer.
"""

import sys

from record import NUM_CLASSES, record

sys.path.insert(0, f"{sys.argv[2]}/models")

from swin_mlp import SwinMLP

SIZES = dict(embed_dim=8, depths=(2, 2, 1))


def stages(model, x):
    set_size(model, x.shape[2:])
    x = model.patch_embed(x)
    for layer in model.layers:
        for block in layer.blocks:
            x = block(x)
        yield x.transpose(1, 2).unflatten(2, layer.blocks[0].input_resolution)
        x = layer.downsample(x) if layer.downsample else x


def set_size(model, size):
    """Lets a model take images of a size other than the one it was built for."""
    model.patch_embed.img_size = tuple(size)
    for i, layer in enumerate(model.layers):
        resolution = tuple(side // 4 // 2**i for side in size)
        for part in (*layer.blocks, layer.downsample):
            if part is not None:
                part.input_resolution = resolution


model = SwinMLP(
    img_size=64, num_classes=NUM_CLASSES, **SIZES, num_heads=(2, 4, 4), window_size=4,
    mlp_ratio=2.0, drop_path_rate=0.0,
)  # fmt: skip
model.register_forward_pre_hook(lambda model, args: set_size(model, args[0].shape[2:]))
record("swin_mlp", model, lambda x: list(stages(model, x)), SIZES, odd=(3, 3, 64, 128))

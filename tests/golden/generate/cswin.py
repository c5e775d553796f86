"""Golden numbers of CSWin: python tests/golden/generate/cswin.py FOLDER REPOSITORY.

REPOSITORY is a copy of microsoft/CSWin-Transformer, which needs einops.
"""

import sys

from record import NUM_CLASSES, record
from torch import nn

sys.path.insert(0, f"{sys.argv[2]}/models")

from cswin import CSWinTransformer

SIZES = dict(embed_dim=8, depths=(1, 1, 2, 1))


class ToTokens(nn.Module):
    """`[B, C, H, W]` to `[B, H * W, C]`, for any size."""

    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


def stages(model, x):
    set_size(model, x.shape[2])
    x = model.stage1_conv_embed(x)
    for i in range(1, 5):
        x = x if i == 1 else getattr(model, f"merge{i - 1}")(x)
        for block in getattr(model, f"stage{i}"):
            x = block(x)
        side = int(x.shape[1] ** 0.5)
        yield x.transpose(1, 2).unflatten(2, (side, side))


def set_size(model, size):
    """Lets a model take square images of a size other than the one it was built for."""
    for i in range(4):
        side = size // 4 // 2**i
        for block in getattr(model, f"stage{i + 1}"):
            block.patches_resolution = side
            for attention in block.attns:
                across = (attention.H_sp, attention.W_sp)
                old = attention.resolution
                attention.H_sp, attention.W_sp = (side if s == old else s for s in across)
                attention.resolution = side


model = CSWinTransformer(
    img_size=64, num_classes=NUM_CLASSES, embed_dim=SIZES["embed_dim"], depth=SIZES["depths"],
    split_size=(1, 2, 2, 2), num_heads=(2, 2, 4, 4), mlp_ratio=2.0,
)  # fmt: skip
model.stage1_conv_embed[1] = ToTokens()
model.register_forward_pre_hook(lambda model, args: set_size(model, args[0].shape[2]))
record("cswin", model, lambda x: list(stages(model, x)), SIZES, odd=(3, 3, 96, 96))

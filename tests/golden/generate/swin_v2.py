"""Golden numbers of Swin V2: python tests/golden/generate/swin_v2.py FOLDER."""

import torch
from record import NUM_CLASSES, record
from timm.models.swin_transformer_v2 import SwinTransformerV2

DIMS, DEPTHS, HEADS, WINDOWS = (8, 16, 32), (2, 2, 1), (2, 2, 4), (4, 4, 2)
# Positions are seen as shares of these windows; 0 for the model's own, shrunk where the map is.
PRETRAINED = (6, 0, 3)

model = SwinTransformerV2(
    img_size=64,
    num_classes=NUM_CLASSES,
    embed_dim=DIMS[0],
    depths=DEPTHS,
    num_heads=HEADS,
    window_size=WINDOWS,
    pretrained_window_sizes=PRETRAINED,
    drop_path_rate=0.0,
)


def fit(images: torch.Tensor) -> torch.Tensor:
    """Shrinks windows for maps that are smaller, and makes the masks of their size."""
    model.set_input_size(tuple(images.shape[2:]), window_size=WINDOWS)
    return images


model.register_forward_pre_hook(lambda _, args: fit(*args))
record(
    "swin_v2",
    model,
    lambda x: model.forward_intermediates(fit(x), intermediates_only=True),
    dict(embed_dim=DIMS[0], depths=DEPTHS, num_heads=HEADS, window_size=WINDOWS,
         pretrained_window=PRETRAINED),
    even=(2, 3, 16, 16),
    odd=(2, 3, 64, 96),
)  # fmt: skip

"""Golden numbers of MaxViT: python tests/golden/generate/maxvit.py FOLDER."""

import dataclasses

from record import NUM_CLASSES, record
from timm.models.maxxvit import MaxxVit, model_cfgs

DIMS, DEPTHS, WINDOW, HEAD_FEATURES = (4, 8, 16, 32), (1, 2, 1, 1), 2, 4

published = model_cfgs["maxvit_tiny_tf"]
attention = dataclasses.replace(
    published.transformer_cfg, dim_head=HEAD_FEATURES, window_size=WINDOW, grid_size=WINDOW
)
model = MaxxVit(
    dataclasses.replace(
        published, embed_dim=DIMS, depths=DEPTHS, stem_width=8, head_hidden_size=DIMS[-1],
        transformer_cfg=attention,
    ),
    num_classes=NUM_CLASSES,
)  # fmt: skip
record(
    "maxvit",
    model,
    # At strides 4, 8, 16 and 32.
    lambda x: model.forward_intermediates(x, [1, 2, 3, 4], intermediates_only=True),
    dict(embed_dim=DIMS[0], depths=DEPTHS, window_size=WINDOW, head_features=HEAD_FEATURES,
         stem_features=8),
    odd=(2, 3, 61, 125),
)  # fmt: skip

"""Golden numbers of EfficientNet-Lite: python tests/golden/generate/efficientnet.py FOLDER."""

from record import NUM_CLASSES, record
from timm.models.efficientnet import _gen_efficientnet_lite

SCALES = dict(channel_multiplier=0.125, depth_multiplier=0.5)

model = _gen_efficientnet_lite(
    "tf_efficientnet_lite0", **SCALES, bn_eps=1e-3, pad_type="same", num_classes=NUM_CLASSES
)
record(
    "efficientnet_lite",
    model,
    # At strides 4, 8, 16 and 32.
    lambda x: model.forward_intermediates(x, [1, 2, 3, 4], intermediates_only=True),
    SCALES,
)

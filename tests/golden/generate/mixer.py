"""Golden numbers of MLP-Mixer: python tests/golden/generate/mixer.py FOLDER."""

from record import NUM_CLASSES, record
from timm.models.mlp_mixer import MlpMixer

SIZES = dict(embed_dim=16, patch_size=8)

model = MlpMixer(num_classes=NUM_CLASSES, img_size=(32, 48), num_blocks=2, **SIZES)
record(
    "mixer",
    model,
    lambda x: model.forward_intermediates(x, [1], norm=False, intermediates_only=True),
    SIZES,
    # Its weights are for one size.
    even=(2, 3, 32, 48),
    odd=(3, 3, 32, 48),
)

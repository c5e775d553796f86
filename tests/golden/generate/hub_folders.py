"""A full-size folder of each family as timm writes it for the hub, with random weights:

python tests/golden/generate/hub_folders.py OUT   # where timm, torchvision and safetensors are
python -m tests.hub.folders OUT                   # compares our logits end to end
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from hub import picture_of
from record import fill
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

NAMES = (
    "convnext_tiny",
    "convnextv2_atto",
    "halonet26t",
    "maxvit_tiny_tf_224",
    "mixer_b16_224",
    "pvt_v2_b0",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "tf_efficientnet_lite0",
)


def main() -> None:
    """Writes a folder of each name, with the picture and timm's logits for it."""
    picture = picture_of(300, 420)
    for name in NAMES:
        torch.manual_seed(0)
        model = timm.create_model(name)
        fill(model)
        model.eval()
        folder = Path(sys.argv[1]) / name
        save_for_hf(model, folder, safe_serialization=True)
        transform = create_transform(**resolve_data_config(model=model), is_training=False)
        with torch.no_grad():
            logits = model(transform(picture)[None])
        np.save(folder / "logits.npy", logits.numpy())
        picture.save(folder / "picture.png")
        print(name, float(logits.abs().max()))


if __name__ == "__main__":
    main()

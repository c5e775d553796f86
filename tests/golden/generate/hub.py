"""A folder of timm for the Hugging Face hub, and what timm makes of a picture:

    python tests/golden/generate/hub.py OUT && python -m tests.golden.pack OUT

Needs timm with torchvision, and safetensors.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from record import fill, to_numpy
from timm.data import create_transform
from timm.models import save_for_hf

CONFIG = dict(
    input_size=(3, 64, 64), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), interpolation="bicubic",
    crop_pct=0.9, crop_mode="center",
)  # fmt: skip
# Of the transform alone.
OTHERS = {
    "bilinear": dict(interpolation="bilinear", crop_pct=0.95),
    "squash": dict(crop_mode="squash", crop_pct=1.0),
    "border": dict(crop_mode="border", crop_pct=0.875),
    "oblong": dict(input_size=(3, 40, 64), crop_pct=0.875),
    "enlarged": dict(input_size=(3, 112, 112), crop_pct=0.875),
}


def main() -> None:
    """Writes `zoo_hub.npz` into the folder that the command line names."""
    torch.manual_seed(0)
    model = timm.create_model(
        "convnext_tiny", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=7
    )
    model.pretrained_cfg |= CONFIG
    fill(model)
    model.eval()
    arrays = {f"param/{key}": tensor for key, tensor in model.state_dict().items()}
    picture = picture_of(77, 100)
    arrays["input/picture"] = np.asarray(picture).astype(np.int16)
    with torch.no_grad():
        inputs = transform(CONFIG)(picture)[None]
        arrays["logits"] = model(inputs)
    for name, other in {"config": {}, **OTHERS}.items():
        config = {**CONFIG, **other}
        pixels = transform({**config, "mean": (0, 0, 0), "std": (1, 1, 1)})(picture)
        arrays[f"input/pixels/{name}"] = (255 * pixels).round().permute(1, 2, 0).to(torch.int16)
    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(model, folder, safe_serialization=True)
        config = json.loads((Path(folder) / "config.json").read_text())
    text = json.dumps({"config.json": config, "others": OTHERS})
    arrays = {key: to_numpy(x) if torch.is_tensor(x) else x for key, x in arrays.items()}
    np.savez(Path(sys.argv[1]) / "zoo_hub.npz", config=text, **arrays)
    print(text)


def transform(config):
    """timm's for evaluation."""
    return create_transform(**config, is_training=False)


def picture_of(height: int, width: int) -> Image.Image:
    """Smooth colors with sharp edges."""
    rows, cols = np.mgrid[:height, :width]
    red = 255 * rows / height
    green = 255 * ((cols // 9 + rows // 13) % 2)
    blue = 127 + 127 * np.sin(cols / 5) * np.cos(rows / 7)
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


if __name__ == "__main__":
    main()

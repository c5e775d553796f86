"""Repositories of timm's models at full size, as the Hugging Face hub's cache keeps them:

    python tests/golden/generate/hub_folders.py FOLDER [NAME ...]
    python -m tests.hub.folders FOLDER

The weights are random. FOLDER gets `hub/`, the cache; `photo.png`; and `expected.npz`, what timm
makes of the photo: `NAME/inputs`, after its transform, and `NAME/logits`.

Needs timm with torchvision, and safetensors; the comparison needs none of them.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from hub import picture_of
from record import fill
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

# The smallest of each family, and those that differ from it in more than width and depth.
NAMES = (
    "convnext_atto",
    "convnext_tiny",
    "convnextv2_atto",
    "convnextv2_tiny",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite3",
    "halonet26t",
    "halonet50ts",
    "sehalonet33ts",
    "maxvit_tiny_tf_224",
    "mixer_s32_224",
    "pvt_v2_b0",
    "pvt_v2_b2_li",
    "swin_tiny_patch4_window7_224",
    "swin_base_patch4_window12_384",
    "swinv2_tiny_window8_256",
    "swinv2_base_window12to16_192to256",
)


def main(folder: Path, names: list[str]) -> None:
    """Writes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = picture_of(333, 500)
    picture.save(folder / "photo.png")
    expected = {}
    for name in names:
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        fill(model)
        save(model, name, folder / "hub")
        transform = create_transform(**resolve_data_config(model=model))
        inputs = transform(picture)[None]
        with torch.no_grad():
            expected[f"{name}/logits"] = model(inputs).numpy()
        expected[f"{name}/inputs"] = inputs.permute(0, 2, 3, 1).numpy()
        print(name, *expected[f"{name}/inputs"].shape)
    np.savez(folder / "expected.npz", **expected)


def save(model: torch.nn.Module, name: str, cache: Path) -> None:
    """Writes `timm/NAME`: files lie under their hashes, and the links of a snapshot name them."""
    repository = cache / f"models--timm--{name}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    snapshot, blobs = repository / "snapshots" / commit, repository / "blobs"
    for directory in (snapshot, blobs, repository / "refs"):
        directory.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    save_for_hf(model, str(snapshot), safe_serialization=True)
    for file in list(snapshot.iterdir()):
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        file.symlink_to(Path("..", "..", "blobs", blob.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(NAMES))

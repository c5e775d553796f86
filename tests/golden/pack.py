"""Packs the authors' numbers for the tests: python -m tests.golden.pack FOLDER.

FOLDER holds the originals, `.npz` and `.json` as their README describes them, or `zoo_*.npz` as
the scripts in `generate/` write them. Packs what is there.
"""

import io
import json
import lzma
import sys
from pathlib import Path

import numpy as np

from tests.golden import FOLDER, sample, to_planes

# Each packed file, and the originals that it is made of.
FILES = {
    "cls_dwnet": ["cls_dwnet.npz", "cls_dwnet_grads.npz"],
    "cls_dynamic_dwnet": ["cls_dynamic_dwnet.npz", "cls_dynamic_dwnet_grads.npz"],
    "cls_i_dynamic_dwnet": ["cls_i_dynamic_dwnet.npz", "cls_i_dynamic_dwnet_grads.npz"],
    "cls_swin": ["cls_swin.npz", "cls_swin_grads.npz"],
    "op_inhomogeneous": ["op_inhomogeneous.npz"],
    "op_dynamic_dwconv": ["op_dynamic_dwconv.npz"],
    "op_idynamic_dwconv": ["op_idynamic_dwconv.npz"],
    "op_dwblock": ["op_dwblock.npz"],
    "op_swin_attention": ["op_swin_attention.npz"],
    "optim_adamw": ["optim_adamw.npz"],
    "schedule_cosine": ["schedule_cosine.npz"],
    "seg_backbone": ["dense_backbone.npz"],
    "seg_upernet": ["seg_upernet.npz"],
    "seg_schedule": ["schedule_seg.npz"],
    "det_components": ["det_components.npz"],
    "det_cascade": ["det_cascade_params.npz", "det_cascade_eval.npz", "det_cascade_train.npz"],
    "det_schedule": ["schedule_det.npz"],
    "model_inventory": ["model_inventory.json"],
}
# What goes into the computation, whole and exact: the name or a part of it says so.
GIVEN = {"param", "input", "inputs", "weight", "labels", "grad_output"}
GIVEN |= {"boxes", "rois", "gt", "gt_masks", "target", "deltas_3class"}
GIVEN |= {"feat", "feat0", "feat1", "feat2", "feat3", "grad_out7", "grad_out14", "paste/mask_prob"}
GIVEN |= {"bce/logits", "ce/logits", "mask_bce/logits"}
# What no test compares: values between those that are, and notes on precision.
DROPPED = {"mask", "merge0", "merge1", "merge2", "float32_noise", "max_abs_dev_fp64"}
MAX_EXACT = 256


def pack(folder: Path, sources: list[str]) -> bytes:
    """The bytes of a packed file."""
    config, arrays = {}, {}
    for source in sources:
        if source.endswith(".json"):
            config |= json.loads((folder / source).read_text())
            continue
        with np.load(folder / source) as original:
            config |= json.loads(str(original["config"]))
            if "zero_grads" in original:
                config["zero_grads"] = json.loads(str(original["zero_grads"]))
            arrays |= {
                # 8-bit labels would pass for the planes of floats.
                name: array.astype(np.int32) if array.dtype == np.uint8 else array
                for name, array in original.items()
                if array.dtype.kind != "U"
            }
    kept = {name: array for name, array in arrays.items() if name.split("/")[-1] not in DROPPED}
    config = {name: value for name, value in config.items() if name not in DROPPED}
    file = io.BytesIO()
    planes = {name: to_planes(reduced(name, array)) for name, array in kept.items()}
    np.savez(file, config=json.dumps(config), **planes)
    return lzma.compress(file.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def reduced(name: str, array: np.ndarray) -> np.ndarray:
    """What the packed file holds of an array."""
    if GIVEN & {name, *name.split("/")}:
        return array
    sampled = sample(array)
    # The optimiser's steps are compared by absolute differences smaller than the rounding.
    exact = sampled.size <= MAX_EXACT or name.startswith(("step", "noclip"))
    exact = exact or sampled.dtype.kind in "ib"
    return sampled if exact else round_to_16_bits(sampled)


def round_to_16_bits(array: np.ndarray) -> np.ndarray:
    """Rounds the significand of float32 to 16 bits."""
    mantissa, exponent = np.frexp(array)
    return np.ldexp(np.round(mantissa * 2**16), exponent - 16).astype(np.float32)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    zoo = {path.stem: [path.name] for path in sorted(folder.glob("zoo_*.npz"))}
    for name, sources in (FILES | zoo).items():
        if not all((folder / source).exists() for source in sources):
            continue
        path = FOLDER / f"{name}.npz.xz"
        path.write_bytes(pack(folder, sources))
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

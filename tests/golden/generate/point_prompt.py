"""Numbers of P2P: python tests/golden/generate/point_prompt.py FOLDER P2P.

P2P is a checkout of github.com/wangzy22/P2P; the environment needs torch and timm. What the
checkout imports for GPUs, torch_scatter and pointnet2_ops, is replaced here.
"""

import json
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from record import NUM_CLASSES, fill, rounded, to_numpy
from timm.models.convnext import ConvNeXt

POINTS, CLOUDS = 60, 3
DEPTHS, DIMS = (1, 1, 1, 1), (8, 12, 16, 20)
CONFIG = dict(
    local_size=8, trans_dim=4, graph_dim=16, imgblock_dim=16, img_size=32, obj_size=24,
    imagenet_default_mean=[0.485, 0.456, 0.406], imagenet_default_std=[0.229, 0.224, 0.225],
    base_model_variant="convnext_tiny", checkpoint_path=None, head_type="linear",
    classes=NUM_CLASSES, update_type="norm",
)  # fmt: skip
scattered = {}


def scatter(src: torch.Tensor, index: torch.Tensor, dim: int, reduce: str) -> torch.Tensor:
    """What torch_scatter does, and a note of what it was asked."""
    assert dim == 1 and reduce == "sum"
    shape = (len(src), int(index.max()) + 1, src.shape[2])
    out = src.new_zeros(shape).scatter_add(1, index[..., None].expand_as(src), src)
    scattered.update(index=index, out=out)
    return out


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, checkout = map(Path, sys.argv[1:])
    sys.path.insert(0, str(checkout))
    sys.modules["torch_scatter"] = types.SimpleNamespace(scatter=scatter)
    sys.modules["pointnet2_ops"] = types.SimpleNamespace(pointnet2_utils=None)
    from dataset.modelnet import farthest_point_sample, pc_normalize
    from models import p2p
    from models.layers.utils import knn_point
    from util.rotate import rotate_point_clouds_batch, rotate_theta_phi

    torch.manual_seed(1)
    points = rounded(torch.randn(CLOUDS, POINTS, 3))
    angles = torch.stack([torch.rand(CLOUDS) * 1.9 + 0.04, torch.rand(CLOUDS) * 0.2 - 0.4], -1)
    angles *= torch.pi
    seen = rotate_point_clouds_batch(points, rotate_theta_phi(angles))
    labels = torch.randint(NUM_CLASSES, (CLOUDS,))
    with mock.patch.object(np.random, "randint", return_value=0):
        farthest = np.stack([farthest_point_sample(cloud, 20) for cloud in points.numpy()])

    backbone = ConvNeXt(depths=DEPTHS, dims=DIMS)
    with mock.patch.object(p2p, "create_model", return_value=backbone):
        model = p2p.P2P(types.SimpleNamespace(**CONFIG))
    fill(model)
    model._fix_weight()
    arrays = {f"param/{key}": tensor.clone() for key, tensor in model.state_dict().items()}
    arrays |= {"input/points": points, "input/angles": angles, "input/seen": seen}
    arrays |= {
        "labels": labels,
        "normalized": torch.as_tensor(pc_normalize(points[0].numpy())),
        "farthest": torch.as_tensor(farthest),
        "neighbors": knn_point(CONFIG["local_size"], points.double(), points.double()).sort(-1)[0],
    }
    encoded = []
    model.enc.proj_layer.register_forward_hook(lambda _, __, out: encoded.append(out))
    model.eval()
    with torch.no_grad():
        model(seen, points)
        pixels = scattered["index"]
        model.double()
        arrays["eval/picture"] = model.enc(points.double(), seen.double()).permute(0, 2, 3, 1)
        assert torch.equal(pixels, scattered["index"])  # as in float32
        arrays["eval/logits"] = model(seen.double(), points.double())
    arrays["eval/encoded"] = encoded[-1].permute(0, 2, 1)
    size = CONFIG["obj_size"]
    maps = scattered["out"].new_zeros(CLOUDS, size * size, CONFIG["graph_dim"])
    maps[:, : scattered["out"].shape[1]] = scattered["out"]
    arrays["eval/projected"] = maps.view(CLOUDS, size, size, -1)
    # The pixel of a point is the middle one of its nine.
    arrays["pixels"] = scattered["index"].view(CLOUDS, POINTS, 9)[..., 4]

    for parameter in model.parameters():
        parameter.grad = None
    model.train()
    logits = model(seen.double(), points.double())
    loss, _ = model.get_loss_acc(logits, labels)
    loss.backward()
    arrays |= {"train/logits": logits, "train/loss": loss}
    arrays |= {f"grad/{key}": p.grad for key, p in model.named_parameters() if p.grad is not None}
    arrays |= {
        f"stats/{key}": tensor
        for key, tensor in model.named_buffers()
        if key.endswith(("running_mean", "running_var"))
    }
    config = {key: value for key, value in CONFIG.items() if key != "checkpoint_path"}
    config |= {"depths": DEPTHS, "dims": DIMS}
    path = folder / "zoo_point_prompt.npz"
    np.savez(path, config=json.dumps(config), **{k: to_numpy(x) for k, x in arrays.items()})
    print(f"{path}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()

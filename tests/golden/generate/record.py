"""What the golden file of a classifier holds, computed in float64 with the original's code."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

Stages = Callable[[torch.Tensor], Sequence[torch.Tensor]]
NUM_CLASSES = 5


def record(
    name: str,
    model: torch.nn.Module,
    stages: Stages,
    config: dict[str, Any],
    *,
    even: tuple[int, ...] = (2, 3, 64, 64),
    odd: tuple[int, ...] = (3, 3, 44, 71),
) -> None:
    """Writes `zoo_<name>.npz` into the folder that the command line names.

    Evaluation runs on inputs of both shapes, a training step on the odd one. `stages` gives the
    feature maps, `[B, C, H, W]`; they are written channels last, as all maps.
    """
    torch.manual_seed(0)
    inputs = {"even": rounded(torch.randn(even)), "odd": rounded(torch.randn(odd))}
    labels = torch.randint(NUM_CLASSES, odd[:1])
    fill(model)
    arrays = {f"param/{key}": tensor.clone() for key, tensor in model.state_dict().items()}
    model.double().eval()
    with torch.no_grad():
        for shape, images in inputs.items():
            arrays[f"input/{shape}"] = images.permute(0, 2, 3, 1)
            for i, x in enumerate(stages(images.double())):
                arrays[f"eval/{shape}/stage{i}"] = x.permute(0, 2, 3, 1)
            arrays[f"eval/{shape}/logits"] = model(images.double())
    model.train()
    logits = model(inputs["odd"].double())
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    arrays |= {"labels": labels, "train/logits": logits, "train/loss": loss}
    arrays |= {f"grad/{key}": p.grad for key, p in model.named_parameters()}
    arrays |= {
        f"stats/{key}": tensor
        for key, tensor in model.named_buffers()
        if key.endswith(("running_mean", "running_var"))
    }
    path = Path(sys.argv[1]) / f"zoo_{name}.npz"
    config = config | {"num_classes": NUM_CLASSES}
    np.savez(path, config=json.dumps(config), **{key: to_numpy(x) for key, x in arrays.items()})
    print(f"{path}: {sum(p.numel() for p in model.parameters()):,} parameters")


def fill(model: torch.nn.Module) -> None:
    """Random weights under which every parameter matters, in bfloat16, which packs small."""
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape)
            if key.endswith("running_var"):
                noise = 0.5 + torch.rand(tensor.shape)
            elif tensor.ndim > 1:
                noise /= math.sqrt(tensor[0].numel())
            elif key.endswith("weight") and "grn" not in key:
                noise = 1 + 0.2 * noise
            else:
                noise *= 0.2
            tensor.copy_(rounded(noise))


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16().float()


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    array = tensor.detach().numpy()
    return array.astype(np.float32) if array.dtype == np.float64 else array

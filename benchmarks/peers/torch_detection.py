"""RoIAlign and NMS in plain PyTorch: the peers of `benchmarks.cpu.detection`."""

import math

import torch
from torch.nn import functional


def roi_align(features: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Adaptive, aligned RoIAlign of boxes `[R, 4]` inside a map `[1, C, H, W]`, box by box."""
    height, width = features.shape[2:]
    pooled = []
    for x1, y1, x2, y2 in (boxes - 0.5).tolist():
        rows, cols = math.ceil((y2 - y1) / size), math.ceil((x2 - x1) / size)
        y = y1 + (torch.arange(size * rows) + 0.5) * ((y2 - y1) / (size * rows))
        x = x1 + (torch.arange(size * cols) + 0.5) * ((x2 - x1) / (size * cols))
        grid_x, grid_y = 2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1
        grid = torch.stack(torch.meshgrid(grid_x, grid_y, indexing="xy"), -1)[None]
        samples = functional.grid_sample(features, grid, padding_mode="border", align_corners=True)
        pooled.append(functional.avg_pool2d(samples, (rows, cols)))
    return torch.cat(pooled)


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Indices of the kept boxes among `[N, 4]`, by a table of overlaps and a greedy loop."""
    order = scores.argsort(descending=True)
    boxes = boxes[order]
    near = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    far = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (far - near).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    overlaps = common > threshold * (area[:, None] + area[None] - common)
    free = torch.ones(len(boxes), dtype=torch.bool)
    kept = []
    for i in range(len(boxes)):
        if free[i]:
            kept.append(i)
            free &= ~overlaps[i]
    return order[kept]

"""Cascade Mask R-CNN by part, RoIAlign and NMS: `python -m benchmarks.cpu.detection`."""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.session import Session, parser, session
from benchmarks.timing import compile_function, timer
from dwconv_jax.layers import Canvas
from dwconv_jax.models import CascadeMaskRCNN, create_model
from dwconv_jax.models.detection.cascade_mask_rcnn import MaskedDetections, Pyramid
from dwconv_jax.models.detection.roi_heads import BOX_RESOLUTION
from dwconv_jax.ops.detection.nms import nms
from dwconv_jax.ops.detection.roi_align import roi_align

FEATURES = 256
_REPEATS = 3


def boxes_of(count: int, side: float, longest: float) -> jax.Array:
    """Random boxes `[count, 4]` inside a square of `side`; always the same."""
    keys = jax.random.split(jax.random.key(0), 2)
    size = jax.random.uniform(keys[0], (count, 2), minval=longest / 8, maxval=longest)
    near = jax.random.uniform(keys[1], (count, 2)) * (side - size)
    return jnp.concatenate([near, near + size], axis=-1)


def suppression(run: Session) -> None:
    """NMS of 1,000 to 4,000 boxes of one class."""
    for count in (1000, 2000, 4000):
        boxes = boxes_of(count, 800, 200)
        scores = jax.random.uniform(jax.random.key(1), (count,))
        details = {"boxes": boxes.tolist(), "scores": scores.tolist(), "threshold": 0.7}

        def ours(boxes: jax.Array, scores: jax.Array) -> Any:
            return nms(boxes, scores, 0.7, 1000)

        label = (f"nms {count} boxes", "keep 1000", "XLA")
        run.against_torch(label, ours, (boxes, scores), "nms", details)


def pooling(run: Session) -> None:
    """RoIAlign on maps as large as a pyramid's."""
    for size, count in ((200, 128), (50, 512)):
        features = jax.random.normal(jax.random.key(0), (1, size, size, FEATURES))
        boxes = boxes_of(count, size, 28)
        details = {"size": size, "channels": FEATURES, "boxes": boxes.tolist(), "bins": 7}

        def ours(features: jax.Array, boxes: jax.Array) -> jax.Array:
            return roi_align(features, boxes, BOX_RESOLUTION)

        label = (f"roi_align {count} boxes of {size}x{size}x{FEATURES}", "7x7", "XLA")
        run.against_torch(label, ours, (features, boxes[None]), "roi_align", details)


def parts(options: argparse.Namespace) -> None:
    """Prints milliseconds of each part of a prediction, and of the whole."""
    model = create_model(options.model, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (1, options.size, options.size, 3))
    size = jnp.array([[options.size, options.size]])
    graph, state = nnx.split(model)

    def measured(name: str, part: Callable[..., Any], *arguments: Any) -> Any:
        def call(state: nnx.State, *arguments: Any) -> Any:
            return part(nnx.merge(graph, state), *arguments)

        compiled, seconds = compile_function(call, state, *arguments)
        results = jax.block_until_ready(compiled(state, *arguments))  # and warms up
        milliseconds = 1e3 * timer(lambda: compiled(state, *arguments))(_REPEATS)
        print(f"| {name} | {milliseconds:.1f} | {seconds:.1f} |", flush=True)
        return results

    print(f"\n## {options.model}, one image of {options.size}x{options.size}, forward\n")
    print("| part | ms | compile s |\n|---|---|---|")
    canvas = Canvas(model.padded_size(size, train=False))
    measured("backbone", lambda m, x: m.backbone.features(x, False, None, canvas), images)
    pyramid = measured("backbone + pyramid", lambda m, x: m.features(x, size), images)
    levels = measured("proposal network", lambda m, p: m.rpn(*p), pyramid)
    proposals = measured("proposals (top-k, NMS)", lambda m, x: m.propose(x, size, False), levels)
    pooled = measured(
        "RoIAlign 7x7 (of three)", lambda m, p, b: m.pool(p, b, 7), pyramid, proposals.boxes
    )
    measured("box head (of three)", lambda m, x: m.box_heads[0](x), pooled)
    refined = measured("cascade", lambda m, p, q: m.refine(p, q, size), pyramid, proposals)
    found = measured("detections (NMS, masks)", _select, pyramid, *refined)
    measured("masks", lambda m, p, b, c: m.masks(p, b, c), pyramid, found.boxes, found.classes)
    measured("whole", lambda m, x: m(x, size), images)


def _select(model: CascadeMaskRCNN, pyramid: Pyramid, *refined: jax.Array) -> MaskedDetections:
    return model.select(pyramid, *refined)


def main(options: argparse.Namespace) -> None:
    """Measures what `--only` selects."""
    with session("Detection, float32", options) as run:
        for name, measure in (("nms", suppression), ("roi_align", pooling)):
            if options.only in name:
                measure(run)
    if options.only in "parts":
        parts(options)


if __name__ == "__main__":
    arguments = parser(__doc__, "detection")
    arguments.add_argument("--model", default="cascade_mask_rcnn_dwnet_tiny")
    arguments.add_argument("--size", type=int, default=800, help="side of the image")
    main(arguments.parse_args())

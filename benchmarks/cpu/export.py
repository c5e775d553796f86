"""ONNX Runtime beside the artifact of `jax.export`: `python -m benchmarks.cpu.export [MODEL ...]`.

Needs the extra `onnx`. Models in float32 with initial weights, on pixels of their own size.
"""

import argparse

import jax
import numpy as np
from flax import nnx

import dwconv_jax
from benchmarks.output import print_cells, print_header
from benchmarks.timing import compare, timer
from dwconv_jax.inference.onnx import export_onnx, onnx_program
from dwconv_jax.inference.program import export_model
from dwconv_jax.models import VARIANTS

MODELS = (
    "dwnet_tiny",
    "dynamic_dwnet_tiny",
    "i_dynamic_dwnet_tiny",
    "swin_tiny",
    "convnext_tiny",
    "nat_tiny",
    "maxvit_tiny_tf_224",
)
BATCHES = (1, 8)
_PAIRS = 7
_NORMALIZATION = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def measure(name: str) -> None:
    """Prints a row for each batch size."""
    size = VARIANTS[name].image_size
    shape = (size, size, 3)
    model = dwconv_jax.create_model(name, rngs=nnx.Rngs(0))
    artifact = export_model(model, shape, **_NORMALIZATION)
    content = export_onnx(model, shape, **_NORMALIZATION)
    by_jax, by_onnx = jax.jit(artifact.call), onnx_program(content)
    megabytes = [len(file) / 1e6 for file in (artifact.serialize(), content)]
    for batch in BATCHES:
        pixels = np.random.default_rng(0).integers(0, 256, (batch, *shape), dtype=np.uint8)
        on_device = jax.device_put(pixels)
        expected = np.asarray(by_jax(on_device))
        difference = np.abs(by_onnx(pixels) - expected).max() / np.abs(expected).max()
        times = compare(
            timer(lambda pixels=pixels: by_onnx(pixels)),
            timer(lambda pixels=on_device: by_jax(pixels)),
            None,
            _PAIRS,
        )
        print_cells(
            name,
            str(batch),
            *(f"{size:.0f} MB" for size in megabytes),
            f"{difference:.0e}",
            f"{times.peer_ms:.0f} ms",
            f"{times.ours_ms:.0f} ms",
            f"{times.ratio:.2f} ({times.ratio_low:.2f} to {times.ratio_high:.2f})",
            "disturbed" if times.is_noisy else "",
        )


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    columns = ("jax.export file", "ONNX file", "difference", "jax.export", "ONNX Runtime")
    print_header("model", "batch", *columns, "jax.export / ONNX Runtime", "")
    for name in parser.parse_args().models:
        measure(name)


if __name__ == "__main__":
    main()

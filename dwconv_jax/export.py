"""A trained classifier or segmenter as one file that runs with JAX or ONNX Runtime alone.

    dwconv-jax export --workdir=runs/digits --out=digits.jaxexport
    dwconv-jax export --workdir=runs/digits --out=digits.onnx --format=onnx

Writes the program and, beside it, a `.json` file with its input, its output and its classes.
"""

import sys

from dwconv_jax.inference.program import PLATFORMS, export_model

__all__ = ["PLATFORMS", "export_model"]

if __name__ == "__main__":
    from dwconv_jax.cli.export import main

    main(sys.argv[1:])

"""Converts weights between files: dwconv-jax convert SRC DST --model=NAME.

    dwconv-jax convert dwnet_tiny_224.pth weights/dwnet_tiny --model=dwnet_tiny
    dwconv-jax convert weights/dwnet_tiny dwnet_tiny.pth --model=dwnet_tiny

SRC is a PyTorch file, a checkpoint of weights or the workdir of a run; DST is a PyTorch file where
its suffix says so, and a checkpoint of weights otherwise. The number of classes is that of SRC.
"""

import argparse
import ast
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flax import nnx

from dwconv_jax.command_line import ArgumentParser, shown_errors
from dwconv_jax.convert.checkpoints import load_weights, read_weights, save_weights
from dwconv_jax.convert.overrides import check_overrides
from dwconv_jax.convert.torch_files import SUFFIXES, read_state_dict, write_state_dict
from dwconv_jax.convert.weights import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import Model, create_model, list_models
from dwconv_jax.models.registry import find_variant
from dwconv_jax.quiet import hide_aftermath_of_orbax


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(arguments)
    hide_aftermath_of_orbax()
    with shown_errors():
        source, destination = Path(args.src).expanduser(), Path(args.dst).expanduser()
        if destination.exists():
            raise FileExistsError(f"{destination} exists already; name a new file or directory")
        model = _load(source, args.model, dict(args.override))
        if destination.suffix in SUFFIXES:
            write_state_dict(destination, to_torch(model, args.image_size))
        else:
            save_weights(destination, model)
    print(f"wrote {destination}: {args.model} with {model.num_classes} classes")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "dwconv-jax convert", "Converts weights between PyTorch files and Orbax checkpoints."
    )
    parser.add_argument("src", type=Path, help="PyTorch file, checkpoint, or workdir of a run")
    parser.add_argument(
        "dst",
        type=Path,
        help=f"a PyTorch file where it ends in {', '.join(SUFFIXES)}, else a checkpoint",
    )
    parser.add_argument(
        "--model",
        required=True,
        choices=list_models(),
        metavar="NAME",
        help="as `dwconv-jax models` lists it",
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        type=_override,
        metavar="NAME=VALUE",
        help="an argument of create_model, such as embed_dim=24 or 'depths=(1, 1, 2)'; repeatable",
    )
    parser.add_argument(
        "--image_size", type=int, default=224, help="of the attention masks in Swin's PyTorch files"
    )
    return parser


def _override(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, a Python value") from error


def _load(source: Path, name: str, overrides: dict[str, Any]) -> Model:
    """The model with the weights of a file or directory, and as many classes as they have."""
    if source.is_dir():
        load: Callable[..., Any] = load_weights
        found = read_weights(source)
    else:
        load = load_torch
        found = read_state_dict(source)
    num_classes = find_variant(name)[1].HEAD.count_classes(found)
    overrides = {"num_classes": num_classes, **overrides}
    check_overrides(name, overrides)
    # Abstract: every array comes from the file, and a file that lies about shapes costs nothing.
    model = nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0), **overrides))
    try:
        return load(model, found)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error


if __name__ == "__main__":
    main()

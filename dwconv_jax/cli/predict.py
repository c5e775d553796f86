"""`dwconv-jax predict`."""

from collections.abc import Sequence

from dwconv_jax.cli.config import ConfigArgumentParser, add_checkpoint_flag, check_run
from dwconv_jax.command_line import shown_errors


def main(arguments: Sequence[str]) -> None:
    """Predicts the pictures, or point clouds, in a folder."""
    parser = ConfigArgumentParser(
        "dwconv-jax predict", "Predicts pictures or point clouds with the model of a run."
    )
    parser.add_argument("--workdir", required=True, help="of the run: its --workdir in training")
    parser.add_argument(
        "--images",
        "--clouds",
        required=True,
        help="a folder of pictures, of any sizes; or of point clouds, .npy and .obj files",
    )
    parser.add_argument("--out", required=True, help="the folder to write to")
    add_checkpoint_flag(parser)
    flags = parser.parse_args(arguments)
    check_run(flags.workdir, flags.config)
    from dwconv_jax.host_memory import reuse_host_memory
    from dwconv_jax.inference.predict import predict
    from dwconv_jax.training import logs

    reuse_host_memory()
    logs.set_up()
    with shown_errors():
        predict(flags.workdir, flags.images, flags.out, flags.checkpoint, flags.config)

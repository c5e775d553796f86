"""`dwconv-jax report`."""

from collections.abc import Sequence

from dwconv_jax.cli.config import check_run
from dwconv_jax.command_line import ArgumentParser, shown_errors


def main(arguments: Sequence[str]) -> None:
    """Writes the page of a run."""
    parser = ArgumentParser("dwconv-jax report", "Writes WORKDIR/report.html of a run.")
    parser.add_argument("--workdir", required=True, help="of a run")
    workdir = parser.parse_args(arguments).workdir
    check_run(workdir)
    # TensorFlow takes seconds to import: not before the flags are parsed.
    from dwconv_jax.report import write_report
    from dwconv_jax.training import logs

    logs.set_up()
    with shown_errors():
        print(f"wrote {write_report(workdir)}")

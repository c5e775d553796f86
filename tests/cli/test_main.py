"""Finding a command, and what every command has."""

import re

import pytest

from dwconv_jax.cli.main import COMMANDS, main


def test_help_lists_the_commands(capsys):
    main([])
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", text, re.MULTILINE)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_fits_on_a_screen(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert text.startswith(f"usage: dwconv-jax {name} [-h]")
    assert len(text.splitlines()) < 40


def test_an_unknown_command_is_one_line():
    with pytest.raises(SystemExit, match=r"^error: argument command: invalid choice: 'trian'"):
        main(["trian"])


def test_a_missing_package_is_named_and_a_missing_module_a_bug(monkeypatch):
    def train_by(module):
        monkeypatch.setitem(COMMANDS, "train", COMMANDS["train"]._replace(module=module))
        main(["train"])

    with pytest.raises(SystemExit, match=r"needs no_such_package, .* 'dwconv-jax\[train\]'"):
        train_by("no_such_package.module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        train_by("dwconv_jax.no_such_module")


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["train"], "--config, --workdir"),
        (["eval"], "--workdir"),
        (["predict", "--workdir=x"], "--images/--clouds, --out"),
        (["compile", "--config=digits"], "--topology"),
        (["export"], "--workdir, --out"),
    ],
)
def test_missing_flags_are_named(arguments, flags):
    message = f"^error: the following arguments are required: {flags}; see .* --help$"
    with pytest.raises(SystemExit, match=message):
        main(arguments)

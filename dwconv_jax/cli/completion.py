"""`dwconv-jax completion`."""

import contextlib
import importlib
import io
import re
from collections.abc import Sequence

from dwconv_jax.cli.config import config_names
from dwconv_jax.cli.main import COMMANDS
from dwconv_jax.command_line import ArgumentParser
from dwconv_jax.models import list_models

_SCRIPT = """\
_dwconv_jax() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words
  if [[ $word == = ]]; then  # bash takes --config=digits for three words
    word=
  elif [[ $before == = ]]; then
    before=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  case $before in
    *dwconv-jax) words="{commands}" ;;
    --config) words="{configs}" ;;
    --model | models) words="{models}" ;;
    *) case ${{COMP_WORDS[1]}} in
{flags}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _dwconv_jax dwconv-jax
"""


def main(arguments: Sequence[str]) -> None:
    """Prints a script for bash."""
    parser = ArgumentParser(
        "dwconv-jax completion",
        "Prints a script by which bash completes commands, flags, configs and models.",
        epilog="bash finds it in ~/.local/share/bash-completion/completions/dwconv-jax",
    )
    parser.parse_args(arguments)
    print(script(), end="")


def script() -> str:
    """The script, with the names and flags of this version."""
    flags = "\n".join(
        f'      {name}) words="{" ".join(_flags(command.module))}" ;;'
        for name, command in COMMANDS.items()
    )
    return _SCRIPT.format(
        commands=" ".join(COMMANDS),
        configs=" ".join(config_names()),
        models=" ".join(list_models()),
        flags=flags,
    )


def _flags(module: str) -> list[str]:
    """The flags that the help of a command lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        importlib.import_module(module).main(["--help"])
    return re.findall(r"^  (--\w+)", text.getvalue(), re.MULTILINE)

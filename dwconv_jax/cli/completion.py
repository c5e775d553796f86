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

_BASH = """\
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

_ZSH = """\
#compdef dwconv-jax
_dwconv_jax() {{
  local before=$words[CURRENT-1] offered
  if compset -P '--*='; then  # zsh takes --config=digits for one word
    before=${{IPREFIX%=}}
  fi
  case $before in
    *dwconv-jax) offered="{commands}" ;;
    --config) offered="{configs}" ;;
    --model | models) offered="{models}" ;;
    *) case $words[2] in
{flags}
    esac ;;
  esac
  compadd -- ${{=offered}} || _files
}}
if [[ $funcstack[1] == _dwconv-jax ]]; then  # zsh loads it from a folder of $fpath
  _dwconv_jax
else
  compdef _dwconv_jax dwconv-jax
fi
"""

_FISH = """\
complete -c dwconv-jax -n __fish_use_subcommand -f -a "{commands}"
complete -c dwconv-jax -n "__fish_seen_subcommand_from models" -f -a "{models}"
{flags}
"""

_PLACES = """\
where the shells look for it:
  bash  ~/.local/share/bash-completion/completions/dwconv-jax
  zsh   a file _dwconv-jax in a folder of $fpath
  fish  ~/.config/fish/completions/dwconv-jax.fish
"""


def main(arguments: Sequence[str]) -> None:
    """Prints a script for a shell."""
    parser = ArgumentParser(
        "dwconv-jax completion",
        "Prints a script by which a shell completes commands, flags, configs and models.",
        epilog=_PLACES,
    )
    parser.add_argument("shell", nargs="?", choices=list(_SCRIPTS), default="bash")
    print(script(parser.parse_args(arguments).shell), end="")


def script(shell: str) -> str:
    """The script for "bash", "zsh" or "fish", with the names and flags of this version."""
    template, flag_lines = _SCRIPTS[shell]
    return template.format(
        commands=" ".join(COMMANDS),
        configs=" ".join(config_names()),
        models=" ".join(list_models()),
        flags="\n".join(
            line for name, command in COMMANDS.items() for line in flag_lines(name, command.module)
        ),
    )


def _bash_flags(command: str, module: str) -> list[str]:
    return [f'      {command}) words="{" ".join(_flags(module))}" ;;']


def _zsh_flags(command: str, module: str) -> list[str]:
    return [f'      {command}) offered="{" ".join(_flags(module))}" ;;']


def _fish_flags(command: str, module: str) -> list[str]:
    offered = {"--config": config_names(), "--model": list_models()}
    lines = []
    for flag in _flags(module):
        names = offered.get(flag)
        value = "-r" if names is None else f'-x -a "{" ".join(names)}"'
        condition = f'-n "__fish_seen_subcommand_from {command}"'
        lines.append(f"complete -c dwconv-jax {condition} -l {flag[2:]} {value}")
    return lines


_SCRIPTS = {
    "bash": (_BASH, _bash_flags),
    "zsh": (_ZSH, _zsh_flags),
    "fish": (_FISH, _fish_flags),
}


def _flags(module: str) -> list[str]:
    """The flags that the help of a command lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        importlib.import_module(module).main(["--help"])
    return list(dict.fromkeys(re.findall(r"(?:^  |, )(--\w+)", text.getvalue(), re.MULTILINE)))

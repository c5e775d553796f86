"""Finds pretrained weights: a local file or folder, or a repository of the Hugging Face hub."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dwconv_jax.errors import MissingPackageError, UserError
from dwconv_jax.hub.config import NAME as CONFIG_NAME
from dwconv_jax.models.registry import HUB_PREFIX

WEIGHTS_NAME = "model.safetensors"
# timm's older repositories hold what torch.save writes.
_WEIGHTS_NAMES = (WEIGHTS_NAME, "pytorch_model.bin")
_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


class Source(NamedTuple):
    """Where pretrained weights lie.

    Attributes:
      weights: a file, or the directory of an Orbax checkpoint or of a run.
      config: `config.json` of the model; None if there is none.
    """

    weights: Path
    config: Path | None


def find_source(pretrained: str | os.PathLike[str]) -> Source:
    """Finds the weights and the config that `create_model(pretrained=...)` names.

    Raises:
      UserError: if there is nothing of that name, here, on the hub or in its cache.
      MissingPackageError: if the hub is asked for and its package is not installed.
    """
    if not isinstance(pretrained, str | os.PathLike):
        raise UserError(f"pretrained must be a path or a repository, got {pretrained!r}")
    path = Path(pretrained).expanduser()
    if path.is_dir():
        weights = [path / name for name in _WEIGHTS_NAMES if (path / name).exists()]
        config = path / CONFIG_NAME
        if weights:
            return Source(weights[0], config if config.exists() else None)
        if config.exists() and not (path / "checkpoints").exists():
            raise UserError(f"{path} has a {CONFIG_NAME} but no {' or '.join(_WEIGHTS_NAMES)}")
        return Source(path, None)
    if path.exists():
        return Source(path, None)
    text = os.fspath(pretrained)
    match = _REPOSITORY.fullmatch(text.removeprefix(HUB_PREFIX))
    if match is None:
        raise UserError(
            f"pretrained={text!r} is neither a file, nor a folder, nor a repository OWNER/NAME"
        )
    return _download(match["repo"], match["revision"])


def _download(repo: str, revision: str | None) -> Source:
    """The files of a repository, from the hub or its cache."""
    config = _download_first([CONFIG_NAME], repo, revision)
    return Source(_download_first(_WEIGHTS_NAMES, repo, revision), config)


def _download_first(names: Sequence[str], repo: str, revision: str | None) -> Path:
    """The first of several files that the repository has."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingPackageError(
            f"{repo!r} is no local path, and to read it from the Hugging Face hub takes "
            "pip install 'dwconv-jax[hub]'"
        ) from error
    failures = []
    for name in names:
        try:
            return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))
        except (errors.EntryNotFoundError, errors.LocalEntryNotFoundError) as error:
            failures.append(error)
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            raise UserError(f"cannot read {repo!r} from the Hugging Face hub: {error}") from error
    raise UserError(
        f"the Hugging Face hub or its cache has no {' or '.join(names)} of {repo!r}"
        + (f" at {revision!r}" if revision else "")
        + f": {str(failures[0]).splitlines()[0]}"
    )

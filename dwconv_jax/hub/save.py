"""Writes a model as a folder for the Hugging Face hub, and uploads it."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from dwconv_jax.convert.checksums import checksum
from dwconv_jax.convert.torch_files import write_state_dict
from dwconv_jax.convert.variables import variables
from dwconv_jax.errors import MissingPackageError
from dwconv_jax.files import write_atomically
from dwconv_jax.hub.card import PICTURE_NAME, CardInfo, card_text, confusion_picture
from dwconv_jax.hub.config import NAME as CONFIG_NAME
from dwconv_jax.hub.config import config_fields
from dwconv_jax.hub.source import WEIGHTS_NAME
from dwconv_jax.models.lora import check_merged


def save_pretrained(
    model: Any, folder: str | os.PathLike[str], info: CardInfo | None = None
) -> None:
    """Writes `config.json`, `model.safetensors` and `README.md`, the model card.

    `create_model(pretrained=folder)` builds the same model with the same weights. Files of these
    names are replaced. A card with a confusion matrix shows it as `confusion_matrix.png`.

    Args:
      model: that `create_model` built.
      folder: to write to; created.
      info: what the card tells beyond the model itself.

    Raises:
      UserError: if `create_model` did not build the model, or had an argument that a file cannot
        hold, or has low-rank products that `merge_lora` has not merged; or if the confusion
        matrix of `info` does not fit its classes.
      MissingPackageError: if safetensors is not installed, or matplotlib, which draws the confusion
        matrix.
    """
    info = info or CardInfo()
    fields, card = config_fields(model), card_text(model, info)
    check_merged(model, "save_pretrained")
    picture = confusion_picture(info)
    path = epath.Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    weights = Path(path / WEIGHTS_NAME)
    write_state_dict(weights, {n: np.asarray(v[...]) for n, v in variables(model).items()})
    fields["sha256"] = checksum(path / WEIGHTS_NAME)
    write_atomically(path / CONFIG_NAME, json.dumps(fields, indent=2) + "\n")
    write_atomically(path / "README.md", card)
    if picture is not None:
        write_atomically(path / PICTURE_NAME, picture)


def push_to_hub(
    model: Any,
    repo: str,
    info: CardInfo | None = None,
    *,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Uploads a model to the Hugging Face hub; creates the repository where it does not exist.

    Args:
      model: that `create_model` built.
      repo: "OWNER/NAME".
      info: what the card tells beyond the model itself.
      private: whether a new repository is.
      token: of an account that may write; None for the one that `hf auth login` stored.

    Returns:
      The address of the commit.

    Raises:
      UserError: as for `save_pretrained`.
      MissingPackageError: if huggingface_hub or safetensors is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingPackageError("push_to_hub takes pip install 'dwconv-jax[hub]'") from error
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, info)
        api = HfApi(token=token)
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="Upload model by dwconv_jax"
        )
    return str(commit.commit_url)

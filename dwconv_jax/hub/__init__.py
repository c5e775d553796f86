"""Pretrained models: the Hugging Face hub, folders that hold a model, and pictures in and out.

Folders hold `config.json`, `model.safetensors` and a model card, as timm's do.
"""

from dwconv_jax.hub.card import CardInfo
from dwconv_jax.hub.guesses import Guess, predict
from dwconv_jax.hub.inputs import preprocess
from dwconv_jax.hub.save import push_to_hub, save_pretrained

__all__ = ["CardInfo", "Guess", "predict", "preprocess", "push_to_hub", "save_pretrained"]

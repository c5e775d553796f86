"""Reads a single picture as an evaluation batch, without a data set."""

import os
from collections.abc import Callable

import tensorflow as tf

from dwconv_jax.data.dataset import Batch
from dwconv_jax.data.stream import Example
from dwconv_jax.errors import UserError


def read_picture(path: os.PathLike[str], preprocess: Callable[[tf.Tensor], Example]) -> Batch:
    """Reads a JPEG or PNG file as a batch of one image.

    Args:
      path: of the file.
      preprocess: maps the encoded picture to what a batch holds of it.

    Returns:
      What `preprocess` returns, as NumPy arrays with a leading axis of size 1.

    Raises:
      UserError: if the file cannot be read as a picture.
    """
    try:
        entry = preprocess(tf.io.read_file(os.fspath(path)))
    except tf.errors.OpError as error:
        raise UserError(f"cannot read {path}: {error.message}") from error
    return tf.nest.map_structure(lambda x: x.numpy()[None], entry)

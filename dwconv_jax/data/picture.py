"""Reads a single picture as an evaluation batch, without a data set."""

import os
from collections.abc import Callable

import tensorflow as tf

from dwconv_jax.data.dataset import Batch
from dwconv_jax.data.image.content import UnreadableError
from dwconv_jax.data.stream import Example
from dwconv_jax.data.unreadable import reason
from dwconv_jax.errors import UserError


def read_picture(path: os.PathLike[str], preprocess: Callable[[tf.Tensor], Example]) -> Batch:
    """Reads an image file as a batch of one image.

    Args:
      path: of the file.
      preprocess: maps the encoded picture to what a batch holds of it, or raises UnreadableError.

    Returns:
      What `preprocess` returns, as NumPy arrays with a leading axis of size 1.

    Raises:
      UserError: the file cannot be read as a picture.
    """
    try:
        entry = preprocess(tf.io.read_file(os.fspath(path)))
    except (tf.errors.OpError, UnreadableError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    return tf.nest.map_structure(lambda x: x.numpy()[None], entry)

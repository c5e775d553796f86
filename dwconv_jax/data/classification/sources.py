"""Images with labels: from tfds, from a folder, or from CSV lists."""

from dwconv_jax.data.catalog import find_builder, prepare_builder
from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.classification.csv_list import open_csv
from dwconv_jax.data.classification.folder import open_folder
from dwconv_jax.data.classification.info import image_and_label
from dwconv_jax.data.prepared import open_split
from dwconv_jax.data.stream import Source, Split

_LISTED = {"folder": open_folder, "csv": open_csv}


def open_source(config: ClassificationConfig) -> Source:
    """Opens both splits; a tfds data set is prepared first if that takes no download.

    Raises:
      UserError: there is no such data set or split, it is not an image classification, or `mean` or
        `std` does not fit its channels.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    if config.name in _LISTED:
        return _LISTED[config.name](config)
    builder = find_builder(config)
    image, label = image_and_label(config, builder)
    builder = prepare_builder(config, builder)

    def split(field: str) -> Split:
        return open_split(config, field, builder, encoded=("image",), plain=("label",))

    return Source(
        split("train_split"), split("eval_split"), tuple(label.names), channels=image.shape[-1]
    )

"""What a trained model must know about the data set that it was trained on."""

import dataclasses

from dwconv_jax.data.info import DatasetInfo


@dataclasses.dataclass(frozen=True)
class DataDescription:
    """Classes and channels of a data set, enough to build a model and to name what it predicts.

    Attributes:
      class_names: the classes, in the order of the labels.
      channels: channels of the images, 1 (gray) or 3.
      category_ids: the ids that COCO annotations give the classes; None for other tasks.
    """

    class_names: tuple[str, ...]
    channels: int
    category_ids: tuple[int, ...] | None = None

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @classmethod
    def of(cls, dataset: DatasetInfo) -> "DataDescription":
        """Describes a data set."""
        ids = None if dataset.categories is None else tuple(map(int, dataset.categories))
        return cls(tuple(dataset.class_names), dataset.channels, ids)

    @classmethod
    def from_json(cls, fields: dict) -> "DataDescription":
        """The inverse of `dataclasses.asdict`, from what JSON makes of it."""
        ids = fields["category_ids"]
        return cls(
            tuple(fields["class_names"]), fields["channels"], None if ids is None else tuple(ids)
        )

"""The fields of `config.dataset` for point clouds."""

import dataclasses

from dwconv_jax.data.config import StreamedConfig, color_mean, color_std
from dwconv_jax.data.settings import NAME, POSITIVE, Legal, setting
from dwconv_jax.errors import UserError

# Labels are compared as segmentation's are, for which 255 is no class.
_MOST_CLASSES = 254


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointCloudConfig(StreamedConfig):
    """`config.dataset` where `config.task = "point_cloud"`."""

    name: str = setting(
        "furniture_points",
        "A tfds name of a data set with `points` and `label`, or `h5` for HDF5 files with `data` "
        "and `label` in `data_dir` (ModelNet40, ScanObjectNN).",
        NAME,
    )
    train_split: str = setting(
        "train", "The split to train on; for `h5` the files, such as `*train*.h5`.", NAME
    )
    eval_split: str = setting(
        "test", "The split to evaluate on; for `h5` the files.", NAME, operational=True
    )
    class_names: tuple[str, ...] = setting(
        (),
        "The names of the classes of `h5`, in the order of the labels; () for the lines of "
        "`shape_names.txt` in `data_dir`.",
        Legal(
            f"at most {_MOST_CLASSES} different non-empty strings, or ()",
            lambda names: (
                isinstance(names, tuple | list)
                and all(isinstance(name, str) and name for name in names)
                and len(set(names)) == len(names) <= _MOST_CLASSES
            ),
        ),
    )
    unit_sphere: bool = setting(
        True,
        "Moves the mean of each cloud to the origin, and its farthest point to a distance of 1.",
    )
    cloud_size: int = setting(
        2048,
        "Points of a cloud in a batch. Of larger clouds some are left out, and smaller ones repeat "
        "theirs.",
        POSITIVE,
    )
    num_points: int = setting(
        1024, "Points that the model sees: far ones of those in a batch.", POSITIVE
    )
    eval_views: int = setting(
        8,
        "From how many places evaluation looks at a cloud; it averages the logits. 8 and 40 are "
        "the reference's.",
        POSITIVE,
        operational=True,
    )
    mean: tuple[float, ...] = color_mean()
    std: tuple[float, ...] = color_std()

    def __post_init__(self) -> None:
        """See `Settings`."""
        super().__post_init__()
        if self.num_points > self.cloud_size:
            raise UserError(
                f"{self.path}.num_points={self.num_points} must be at most cloud_size, which is "
                f"{self.cloud_size}"
            )

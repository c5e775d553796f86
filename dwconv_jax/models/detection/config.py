"""The arguments of a detector, and the settings of its proposals, samples and detections."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dwconv_jax.errors import UserError
from dwconv_jax.models.config import BackboneConfig, check_int


@dataclasses.dataclass(frozen=True)
class DetectorSettings:
    """Settings of everything but the layers; the defaults are those for COCO.

    Attributes:
      anchor_scale: side of a square anchor over the stride of its level.
      finest_scale: see `pyramid_level`, in pixels.
      train_candidates: anchors of a level that compete to be proposals in training.
      train_proposals: proposals of an image in training.
      candidates: anchors of a level that compete in prediction.
      proposals: proposals of an image in prediction.
      anchor_samples: anchors of an image in the loss of the proposal network; half may be positive.
      roi_samples: regions of an image in the loss of each stage; a quarter may be positive.
      images_per_group: consecutive images that share the normalizers of the losses and, in
        training, a padded size: the images of one device in the reference.
      score_threshold: of detections.
      iou_threshold: above which detections of one class suppress each other.
      max_detections: of an image.
    """

    anchor_scale: float = 8.0
    finest_scale: float = 56.0
    train_candidates: int = 2000
    train_proposals: int = 2000
    candidates: int = 1000
    proposals: int = 1000
    anchor_samples: int = 256
    roi_samples: int = 512
    images_per_group: int = 2
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    max_detections: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class CascadeMaskRCNNConfig(BackboneConfig):
    """The overrides of Cascade Mask R-CNN.

    Attributes:
      num_classes: classes of objects, the background not counted.
      pyramid_features: channels of the pyramid and of all convolutions after it.
      hidden_features: width of the hidden layer of the box heads.
      settings: fields of `DetectorSettings` that differ from the defaults.
    """

    num_classes: int = 80
    pyramid_features: int = 256
    hidden_features: int = 1024
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises a UserError that names the first field outside its range."""
        super().__post_init__()
        for name in ("num_classes", "pyramid_features", "hidden_features"):
            check_int(name, getattr(self, name), 1)


def make_settings(overrides: Mapping[str, Any]) -> DetectorSettings:
    """The settings for COCO with some changed; UserError for an unknown name."""
    known = [field.name for field in dataclasses.fields(DetectorSettings)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise UserError(f"unknown settings {', '.join(unknown)}; known: {', '.join(known)}")
    return DetectorSettings(**overrides)

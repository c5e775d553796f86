"""What the prompt of P2P and its classifier can be built with."""

import dataclasses

from dwconv_jax.errors import UserError
from dwconv_jax.models.config import check_int
from dwconv_jax.ops.checks import check_choice

# Of the encoder's group norm.
GROUPS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """What a prompt can be built with; the defaults are the reference's for ModelNet40.

    Attributes:
      image_size: height and width of the picture.
      object_size: the longer side of the object in it, even; the rest is a border.
      neighbors: of each point, itself included; at most as many as a cloud has.
      point_features: channels of a point before its neighbors are looked at.
      features: channels of a point after that, and of the map.
      head: "linear", or "mlp" for two hidden layers of 512 and 256 features.
    """

    image_size: int = 224
    object_size: int = 224
    neighbors: int = 32
    point_features: int = 8
    features: int = 64
    head: str = "linear"

    def __post_init__(self) -> None:
        """Raises a UserError that names the first field outside its range."""
        for name in ("neighbors", "point_features"):
            check_int(f"prompt.{name}", getattr(self, name), 1)
        for name in ("image_size", "object_size"):
            check_int(f"prompt.{name}", getattr(self, name), 4)
        check_int("prompt.features", self.features, GROUPS)
        check_choice("prompt.head", self.head, ("linear", "mlp"))
        if self.features % GROUPS:
            raise UserError(f"prompt.features={self.features} must be a multiple of {GROUPS}")
        if self.object_size % 2 or self.image_size % 2 or self.object_size > self.image_size:
            raise UserError(
                f"prompt.object_size={self.object_size} must be even and at most "
                f"prompt.image_size={self.image_size}, which must be even too"
            )

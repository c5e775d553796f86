from flax import nnx

from dwconv_jax.models import create_model
from tests.models.families.golden import check_golden

SMALL = dict(embed_dim=(8, 8, 8, 16, 16, 24, 40), depths=(1, 1, 1, 2, 2, 2, 1))


def test_golden():
    options = SMALL | dict(num_classes=5)
    check_golden(
        "efficientnet_lite",
        lambda: create_model("efficientnet_lite0", **options, rngs=nnx.Rngs(0)),
    )

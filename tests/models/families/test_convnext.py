import pytest
from flax import nnx

from dwconv_jax.models import create_model
from tests.models.families.golden import check_golden


@pytest.mark.parametrize("name", ["convnext", "convnextv2"])
def test_golden(name):
    options = dict(embed_dim=8, depths=(1, 1, 2, 1), num_classes=5)
    check_golden(name, lambda: create_model(f"{name}_tiny", **options, rngs=nnx.Rngs(0)))

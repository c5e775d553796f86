"""Which parameters `config.train_only` of P2P names."""

import math

import jax
import pytest
from flax import nnx

from configs.p2p import TRAINED
from dwconv_jax.models.point_prompt import create_point_classifier
from dwconv_jax.models.torch_layout import Entry
from dwconv_jax.training.optimizer.patterns import matching
from dwconv_jax.training.state import partition, take_apart
from tests import golden
from tests.models.point_prompt.test_golden import abstract_model


def test_what_the_authors_train_is_trained():
    """And the norms that they miss, to which timm gives numbers."""
    expected = golden.load("zoo_point_prompt")
    model = abstract_model(expected.config)
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    marks = matching({"/".join(map(str, path)): 0 for path, _ in flat}, (TRAINED,), "train_only")
    items = [item for item in model.torch_layout() if isinstance(item, Entry)]
    entries = {id(item.variable): item.name for item in items}
    trained = {entries[id(variable)] for path, variable in flat if marks["/".join(map(str, path))]}
    wanted = set(expected.under("grad"))
    assert wanted <= trained
    numbered = ("stem.1", *(f"stages.{i}.downsample.0" for i in (1, 2, 3)))
    missed = {f"base_model.{x}.{y}" for x in numbered for y in ("weight", "bias")}
    assert trained - wanted == missed


# The prompt, ConvNeXt's norms and the head. The reference counts 129,227 with the linear head: it
# misses the norms of the stem and before downsampling, 2 * (96 + 96 + 192 + 384) parameters.
@pytest.mark.parametrize(("head", "size"), [("linear", 30_760), ("mlp", 536_872)])
def test_counts_of_parameters(head, size):
    model = nnx.eval_shape(
        lambda: create_point_classifier(
            "convnext_tiny", num_classes=40, prompt=dict(head=head), rngs=nnx.Rngs(0)
        )
    )
    params, _ = take_apart(model)
    trained, _ = partition(params, matching(params, (TRAINED,), "train_only"))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(trained))
    assert count == 83_683 + 16_320 + size

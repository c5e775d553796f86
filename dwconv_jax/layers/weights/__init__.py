"""Weight sources: where the weights of a locally connected layer come from (paper section 3).

One file a source. `WEIGHT_SOURCES` gives them the names of the flag `dynamic`.
"""

from dwconv_jax.layers.weights.attention import AttentionWeights
from dwconv_jax.layers.weights.centre import CentreWeights
from dwconv_jax.layers.weights.pooled import PooledWeights
from dwconv_jax.layers.weights.source import BuildSource, SourceSpec, Traits, WeightSource
from dwconv_jax.layers.weights.static import StaticWeights

WEIGHT_SOURCES: dict[str, BuildSource] = {
    "none": StaticWeights,
    "pooled": PooledWeights,
    "centre": CentreWeights,
    "attention": AttentionWeights,
}

__all__ = [
    "WEIGHT_SOURCES",
    "AttentionWeights",
    "BuildSource",
    "CentreWeights",
    "PooledWeights",
    "SourceSpec",
    "StaticWeights",
    "Traits",
    "WeightSource",
]

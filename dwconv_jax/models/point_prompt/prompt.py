"""The prompt of P2P (Wang et al., NeurIPS 2022): a small network that paints a point cloud."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import BatchNorm, pointwise
from dwconv_jax.layers.conv_norm_act import conv2d
from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.models.point_prompt.config import GROUPS, PromptConfig
from dwconv_jax.models.point_prompt.projection import pad_to, pixels_of, scatter
from dwconv_jax.models.point_prompt.sampling import nearest_neighbors, take_points
from dwconv_jax.models.torch_layout import Layout, conv, conv1x1, linear, norm, prefixed


class GeometryEncoder(nnx.Module):
    """Features of each point from the differences to its neighbors (EdgeConv)."""

    def __init__(self, config: PromptConfig, *, rngs: nnx.Rngs, **dtypes: Any):
        self.neighbors = config.neighbors
        width, features = config.point_features, config.features
        self.lift = pointwise(3, width, rngs=rngs, **dtypes)
        self.edge = pointwise(2 * width, features, use_bias=False, rngs=rngs, **dtypes)
        self.norm = nnx.GroupNorm(
            features, num_groups=GROUPS, epsilon=1e-5, use_fast_variance=False,
            promote_dtype=keep_input_dtype, rngs=rngs, **dtypes,
        )  # fmt: skip
        self.project = pointwise(features, features, rngs=rngs, **dtypes)

    def __call__(self, points: jax.Array) -> jax.Array:
        """Clouds `[B, N, 3]` to features `[B, N, C]`."""
        nearest = nearest_neighbors(points, min(self.neighbors, points.shape[1]))
        x = self.lift(points)
        # The kernel is for [neighbor - center, center]. Applying its halves to points instead takes
        # 1 / neighbors of the products.
        difference, center = jnp.split(self.edge.kernel[...].astype(x.dtype), 2)
        edges = take_points(x @ difference, nearest) + (x @ (center - difference))[:, :, None]
        return self.project(_max_of_neighbors(nnx.leaky_relu(self.norm(edges), 0.2)))

    def torch_layout(self) -> Layout:
        """The entries of the reference's checkpoints."""
        yield from linear(self.lift, "input_trans", kernel_size=(1,))
        yield from conv1x1(self.edge, "graph_layer.0")
        yield from norm(self.norm, "graph_layer.1")
        yield from linear(self.project, "proj_layer", kernel_size=(1,))


def _max_of_neighbors(edges: jax.Array) -> jax.Array:
    """The maximum over neighbors, `[B, N, k, C]` to `[B, N, C]`.

    The gradient of `jnp.max` looks for the maximum in values that XLA may compute again and round
    otherwise: where it finds none it is NaN. This one chooses a neighbor once, as PyTorch does.
    """
    best = jax.lax.stop_gradient(edges).argmax(2, keepdims=True)
    places = jax.lax.broadcasted_iota(best.dtype, edges.shape, 2)
    return jnp.where(places == best, edges, 0).sum(2)


class Coloring(nnx.Module):
    """Geometry-aware coloring: a residual block, then three channels in 0..1."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, **dtypes: Any):
        self.conv1 = conv2d(features, features, use_bias=False, rngs=rngs, **dtypes)
        self.norm1 = BatchNorm(features, **dtypes)
        self.conv2 = conv2d(features, features, use_bias=False, rngs=rngs, **dtypes)
        self.norm2 = BatchNorm(features, **dtypes)
        self.mix = pointwise(features, features, rngs=rngs, **dtypes)
        self.color = pointwise(features, 3, rngs=rngs, **dtypes)

    def __call__(self, maps: jax.Array, train: bool | None = None) -> jax.Array:
        """`[B, S, S, C]` to float32 `[B, S, S, 3]`."""
        y = nnx.relu(self.norm1(self.conv1(maps), train))
        y = nnx.relu(maps + self.norm2(self.conv2(y), train))
        return nnx.sigmoid(self.color(self.mix(y)).astype(jnp.float32))

    def torch_layout(self) -> Layout:
        """The entries of the reference's checkpoints."""
        yield from conv(self.conv1, "img_block.0.conv1")
        yield from norm(self.norm1, "img_block.0.bn1")
        yield from conv(self.conv2, "img_block.0.conv2")
        yield from norm(self.norm2, "img_block.0.bn2")
        yield from conv1x1(self.mix, "img_block.1")
        yield from conv1x1(self.color, "img_layer")


class PointPrompt(nnx.Module):
    """Paints point clouds: encodes their geometry, projects it, and colors the result."""

    def __init__(self, config: PromptConfig, *, rngs: nnx.Rngs, **dtypes: Any):
        self.config = config
        self.encoder = GeometryEncoder(config, rngs=rngs, **dtypes)
        self.coloring = Coloring(config.features, rngs=rngs, **dtypes)

    def encode(self, points: jax.Array) -> jax.Array:
        """Features `[B, N, C]` of clouds `[B, N, 3]`, which no view changes."""
        return self.encoder(points)

    def paint(self, features: jax.Array, seen: jax.Array, train: bool | None = None) -> jax.Array:
        """Pictures of clouds from where a viewer stands.

        Args:
          features: `[B, N, C]`, what `encode` returns.
          seen: `[B, N, 3]`, the same points turned to the viewer.
          train: whether batch norms use the statistics of the batch.

        Returns:
          float32 `[B, S, S, 3]`, in 0..1.
        """
        size = self.config.object_size
        maps = pad_to(scatter(features, pixels_of(seen, size), size), self.config.image_size)
        return self.coloring(maps.astype(features.dtype), train)

    def torch_layout(self) -> Layout:
        """The entries of the reference's checkpoints."""
        yield from prefixed("enc", self.encoder.torch_layout())
        yield from prefixed("enc", self.coloring.torch_layout())

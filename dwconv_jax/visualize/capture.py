"""Captures the weights that the layers of a model multiply their inputs by."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from dwconv_jax.layers import LocallyConnected
from dwconv_jax.ops.connectivity import Connectivity


@dataclasses.dataclass(frozen=True)
class MixingWeights:
    """The weights that one layer multiplied its input by.

    Attributes:
      weights: `[B or 1, N or 1, Q, K, G]`, as `ops.locally_connected` takes them.
      connectivity: which positions they connect.
      map_size: `(H, W)` of the layer's input.
    """

    weights: np.ndarray
    connectivity: Connectivity
    map_size: tuple[int, int]

    def seen_from(self, position: tuple[int, int], image: int = 0) -> np.ndarray:
        """Lays the weights of one output position out on the map.

        Args:
          position: row and column on the map.
          image: its index in the batch.

        Returns:
          `[G, H, W]`, NaN at positions that are not connected.

        Raises:
          ValueError: for a position outside the map.
        """
        height, width = self.map_size
        if not (0 <= position[0] < height and 0 <= position[1] < width):
            raise ValueError(f"position={position} must be inside the {height} x {width} map")
        flat = position[0] * width + position[1]
        block, output = np.argwhere(self.connectivity.outputs(height, width) == flat)[0]
        seen = self.connectivity.neighbours(height, width)[block, output]
        images, blocks = self.weights.shape[:2]
        weights = self.weights[image % images, block % blocks, output]  # [K, G]
        field = np.full((weights.shape[-1], height * width), np.nan, np.float32)
        field[:, seen[seen >= 0]] = weights[seen >= 0].T
        return field.reshape(-1, height, width)


def find_layers(model: nnx.Module) -> dict[str, LocallyConnected]:
    """Returns the `LocallyConnected` layers of a model by path, "stages/0/blocks/1/mixer"."""
    return {
        "/".join(map(str, path)): module
        for path, module in nnx.iter_modules(model)
        if isinstance(module, LocallyConnected)
    }


def find_layer(model: nnx.Module, path: str) -> LocallyConnected:
    """Returns one of `find_layers`; raises a ValueError for an unknown path."""
    layers = find_layers(model)
    if path not in layers:
        raise ValueError(f"layer={path!r} is not in the model, which has {', '.join(layers)}")
    return layers[path]


def mixing_weights(model: nnx.Module, images: jax.Array, layer: str) -> MixingWeights:
    """Returns the weights that a layer uses for some images, dynamic ones included.

    Args:
      model: takes images `[B, H, W, C]`; a classifier, or a `LocallyConnected` by itself.
      images: to call the model with.
      layer: a path of `find_layers`; empty if `model` is the layer itself.

    Raises:
      ValueError: if the model has no such layer; the message lists its layers.
    """
    module = find_layer(model, layer)
    graph, state = nnx.split(model)

    @jax.jit
    def weights_and_values(state: nnx.State, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        run = nnx.capture(
            nnx.merge(graph, state), nnx.Intermediate, method_outputs=nnx.Intermediate
        )
        _, outputs = run(images)
        found: Any = nnx.to_pure_dict(outputs)
        for key in filter(None, layer.split("/")):
            found = found[int(key) if key.isdigit() else key]
        return found["source"]["__call__"][0]

    weights, values = weights_and_values(state, images)
    map_size = values.shape[1:3]
    return MixingWeights(np.asarray(weights, np.float32), module.connectivity, map_size)

"""P2P: a prompt paints point clouds, and a frozen classifier of images names the pictures."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import BatchNorm, linear
from dwconv_jax.layers.initializers import redraw, torch_init
from dwconv_jax.layers.mode import is_training
from dwconv_jax.models.classifier import Classifier
from dwconv_jax.models.config import check_int
from dwconv_jax.models.head import Head
from dwconv_jax.models.point_prompt.config import PromptConfig
from dwconv_jax.models.point_prompt.preprocessing import CloudPreprocessing
from dwconv_jax.models.point_prompt.prompt import PointPrompt
from dwconv_jax.models.point_prompt.sampling import farthest_points, take_points
from dwconv_jax.models.point_prompt.views import evaluation_rotations, turn
from dwconv_jax.models.recipe import Recipe, Recreatable
from dwconv_jax.models.registry import ALIASES, check_names, create_model, find_variant
from dwconv_jax.models.torch_layout import Layout, norm, prefixed
from dwconv_jax.models.torch_layout import linear as linear_layout

_HIDDEN, _DROPOUT_RATE = (512, 256), 0.5


class MlpHead(nnx.Module):
    """Two hidden layers with batch norm, ReLU and dropout."""

    def __init__(self, in_features: int, num_classes: int, *, rngs: nnx.Rngs, **dtypes: Any):
        widths = (in_features, *_HIDDEN)
        pairs = list(itertools.pairwise(widths))
        self.layers = nnx.List([linear(a, b, rngs=rngs, **dtypes) for a, b in pairs])
        self.norms = nnx.List([BatchNorm(b, **dtypes) for _, b in pairs])
        self.dropout = nnx.Dropout(_DROPOUT_RATE, deterministic=True, rngs=rngs)
        self.logits = linear(widths[-1], num_classes, rngs=rngs, **dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """`[B, C]` to `[B, num_classes]`."""
        training = is_training(train, self.dropout.deterministic)
        for layer, batch_norm in zip(self.layers, self.norms, strict=True):
            x = nnx.relu(batch_norm(layer(x), train))
            x = self.dropout(x, deterministic=not training, rngs=rngs)
        return self.logits(x)

    def torch_layout(self) -> Layout:
        """The entries of the reference's checkpoints."""
        for i, (layer, batch_norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            yield from linear_layout(layer, f"mlp_head.{4 * i}")
            yield from norm(batch_norm, f"mlp_head.{4 * i + 1}")
        yield from linear_layout(self.logits, f"mlp_head.{4 * len(self.layers)}")


class PointClassifier(Recreatable, nnx.Module):
    """A prompt before a classifier of images.

    Attributes:
      prompt: paints the clouds.
      backbone: the classifier, whose head is the only one if `head` is None.
      head: an MLP on the backbone's features.
      normalization: mean and standard deviation of the pictures that the backbone knows.
      preprocessing: how clouds become inputs, and how `predict` looks at them.
    """

    preprocessing: CloudPreprocessing = CloudPreprocessing()

    HEAD = Head(
        names=re.compile(r"(base_model\.|backbone/)?(head|head\.fc|fc|classifier)[./]"),
        last_biases=(
            "base_model.head.fc.bias",
            "base_model.head.bias",
            "base_model.head.mlp_head.8.bias",
            "backbone/head/bias",
            "head/logits/bias",
        ),
    )

    def __init__(
        self,
        prompt: PointPrompt,
        backbone: Classifier,
        head: MlpHead | None,
        *,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        self.num_classes = num_classes
        self.normalization = tuple(mean), tuple(std)
        self.prompt, self.backbone = prompt, backbone
        self.head: Any = nnx.data(head)

    def __call__(
        self,
        points: jax.Array,
        seen: jax.Array,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Logits of clouds, each seen from one place.

        Args:
          points: `[B, N, 3]`, floating.
          seen: `[B, N, 3]`, the same points turned to the viewer (see `turn`), and in training
            perhaps scaled and shifted.
          train: use batch statistics (and update the running ones), dropout and stochastic depth;
            None follows `model.train()` and `model.eval()`.
          rngs: keys for dropout and stochastic depth; None for the model's own.

        Returns:
          float32 `[B, num_classes]`.
        """
        pictures = self.prompt.paint(self.prompt.encode(points), seen, train)
        return self.classify(pictures, train, rngs)

    def classify(
        self, pictures: jax.Array, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits `[B, num_classes]` of pictures `[B, S, S, 3]` in 0..1."""
        mean, std = (jnp.asarray(x, jnp.float32).reshape(1, 1, 1, -1) for x in self.normalization)
        outputs = self.backbone((pictures - mean) / std, train, rngs)
        return outputs if self.head is None else self.head(outputs, train, rngs)

    def view_logits(self, points: jax.Array, rotations: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Evaluates clouds from several places, one after the other.

        Args:
          points: `[B, N, 3]`.
          rotations: `[V, 3, 3]`, which turn clouds to the viewer.

        Returns:
          Logits of each view, float32 `[B, V, num_classes]`, and the pictures, float32
          `[B, V, S, S, 3]` in 0..1.
        """
        features = self.prompt.encode(points)

        def view(rotation: jax.Array) -> tuple[jax.Array, jax.Array]:
            pictures = self.prompt.paint(features, turn(points, rotation), train=False)
            return self.classify(pictures, train=False), pictures

        logits, pictures = jax.lax.map(view, rotations)
        return logits.swapaxes(0, 1), pictures.swapaxes(0, 1)

    def predict(self, clouds: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Looks at clouds as `preprocessing` says.

        Args:
          clouds: `[B, N, 3]`, what `preprocessing` returns.

        Returns:
          As `view_logits`. The logits of a cloud are the mean over its views.
        """
        how = self.preprocessing
        if how.num_points < clouds.shape[1]:
            clouds = take_points(clouds, farthest_points(clouds, how.num_points))
        return self.view_logits(clouds, evaluation_rotations(how.num_views))

    def torch_layout(self, image_size: int | None = None, layout: str | None = None) -> Layout:
        """The entries of the reference's checkpoints."""
        yield from self.prompt.torch_layout()
        yield from prefixed("base_model", self.backbone.torch_layout(image_size, layout))
        if self.head is not None:
            yield from prefixed("base_model.head", self.head.torch_layout())


def create_point_classifier(
    name: str,
    *,
    num_classes: int,
    prompt: Mapping[str, Any] | None = None,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    rngs: nnx.Rngs,
    **overrides: Any,
) -> PointClassifier:
    """Builds a classifier of point clouds on a classifier of images.

    Args:
      name: of the classifier of images, such as "convnext_tiny"; see `create_model`.
      num_classes: classes of the clouds.
      prompt: fields of `PromptConfig`.
      mean: of the pictures that the backbone knows, in units of 0..1.
      std: likewise, the standard deviation.
      rngs: initialization keys.
      **overrides: for `create_model`.

    Returns:
      The model; load the backbone's weights with `load_pretrained(model, path, strict=False)`.

    Raises:
      UserError: an argument is unknown or illegal, or `name` is no classifier.
    """
    check_int("num_classes", num_classes, 1)
    check_names("field of prompt", prompt or {}, [f.name for f in dataclasses.fields(PromptConfig)])
    config = PromptConfig(**(prompt or {}))
    _, kind = find_variant(name)
    if kind is not Classifier:
        raise UserError(f"{name!r} is no classifier, so that it cannot name painted clouds")
    dtypes = {key: overrides[key] for key in ("dtype", "param_dtype") if key in overrides}
    backbone: Any = create_model(name, num_classes=num_classes, rngs=rngs, **overrides)
    head = None
    if config.head == "linear":
        # As the reference.
        redraw(backbone.head.kernel, torch_init, rngs=rngs)
    else:
        head = MlpHead(backbone.head.in_features, num_classes, rngs=rngs, **dtypes)
        backbone.head = nnx.data(None)
    model = PointClassifier(
        PointPrompt(config, rngs=rngs, **dtypes),
        backbone,
        head,
        num_classes=num_classes,
        mean=mean,
        std=std,
    )
    arguments = dict(prompt=prompt or {}, mean=mean, std=std, **overrides)
    model.recipe = Recipe.of(ALIASES.get(name, name), arguments)
    return model

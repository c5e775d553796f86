"""RandAugment like timm's "rand-m9-mstd0.5-inc1" (Cubuk et al., 2020, arXiv 1909.13719).

Draws two of fifteen operations, with replacement, and applies each with probability 1/2. Its
magnitude is drawn from a normal distribution, clipped to 0..10, where greater is stronger. If an
operation has two directions, one is drawn.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from dwconv_jax.data.image import enhance, warp

_LAYERS = 2
_PROBABILITY = 0.5
_MAX_MAGNITUDE = 10.0

Operation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

# x: the image; m: magnitude / 10; s: the same with a random sign; f: the color outside the image.
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda x, m, s, f: enhance.auto_contrast(x),
    "Equalize": lambda x, m, s, f: enhance.equalize(x),
    "Invert": lambda x, m, s, f: enhance.invert(x),
    "Rotate": lambda x, m, s, f: warp.rotate(x, 30 * s, f),
    "Posterize": lambda x, m, s, f: enhance.posterize(x, 4 - tf.cast(4 * m, tf.int32)),
    "Solarize": lambda x, m, s, f: enhance.solarize(x, 256 - tf.floor(256 * m)),
    "SolarizeAdd": lambda x, m, s, f: enhance.solarize_add(x, tf.floor(110 * m)),
    "Color": lambda x, m, s, f: enhance.color(x, 1 + 0.9 * s),
    "Contrast": lambda x, m, s, f: enhance.contrast(x, 1 + 0.9 * s),
    "Brightness": lambda x, m, s, f: enhance.brightness(x, 1 + 0.9 * s),
    "Sharpness": lambda x, m, s, f: enhance.sharpness(x, 1 + 0.9 * s),
    "ShearX": lambda x, m, s, f: warp.shear_x(x, 0.3 * s, f),
    "ShearY": lambda x, m, s, f: warp.shear_y(x, 0.3 * s, f),
    "TranslateX": lambda x, m, s, f: warp.translate_x(x, 0.45 * s, f),
    "TranslateY": lambda x, m, s, f: warp.translate_y(x, 0.45 * s, f),
}


def rand_augment(
    image: tf.Tensor, seed: tf.Tensor, magnitude: float, std: float, mean: Sequence[float]
) -> tf.Tensor:
    """Applies up to two random operations.

    Args:
      image: float32 `[height, width, channels]` of static shape, 1 or 3 channels, 0..255.
      seed: int64 `[2]`.
      magnitude: mean of the magnitudes, 0..10.
      std: their standard deviation.
      mean: of the data set's pixels, in 0..1; the color outside the image.

    Returns:
      An image like `image`, of whole numbers.
    """
    choice_seed, magnitude_seed = tf.unstack(tf.random.split(seed))
    chance, choice, direction = tf.unstack(tf.random.stateless_uniform([3, _LAYERS], choice_seed))
    drawn = tf.random.stateless_normal([_LAYERS], magnitude_seed, magnitude, std)
    strength = tf.clip_by_value(drawn, 0, _MAX_MAGNITUDE) / _MAX_MAGNITUDE
    operation = tf.cast(choice * len(OPERATIONS), tf.int32)
    return _apply(
        tf.round(image),
        tf.where(chance < _PROBABILITY, operation, len(OPERATIONS)),
        strength,
        tf.where(direction < 0.5, strength, -strength),
        tf.round(255 * tf.constant(mean, tf.float32)),
    )


# Compiled, an operation takes a fifth of the time, and operations that are not drawn take none.
@tf.function(jit_compile=True, autograph=False)
def _apply(
    image: tf.Tensor, choices: tf.Tensor, strengths: tf.Tensor, signed: tf.Tensor, fill: tf.Tensor
) -> tf.Tensor:
    """Applies the chosen operations in turn; the choice after the last one is the identity."""

    def layer(i: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        branches = [
            functools.partial(operation, image, strengths[i], signed[i], fill)
            for operation in OPERATIONS.values()
        ]
        return i + 1, tf.switch_case(choices[i], [*branches, lambda: tf.identity(image)])

    return tf.while_loop(lambda i, _: i < _LAYERS, layer, (0, image))[1]

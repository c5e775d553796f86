"""Figures of what a model learned, by matplotlib.

`pip install 'dwconv-jax[visualize]'` installs it; nothing else in the library needs it.
"""

from dwconv_jax.visualize.attributions import attributions, class_evidence
from dwconv_jax.visualize.capture import MixingWeights, find_layers, mixing_weights
from dwconv_jax.visualize.features import effective_receptive_field, feature_maps
from dwconv_jax.visualize.panels import contact_sheet
from dwconv_jax.visualize.results import confusion_matrix, training_curves
from dwconv_jax.visualize.weights import predicted_kernels, static_kernels, weight_field

__all__ = [
    "MixingWeights",
    "attributions",
    "class_evidence",
    "confusion_matrix",
    "contact_sheet",
    "effective_receptive_field",
    "feature_maps",
    "find_layers",
    "mixing_weights",
    "predicted_kernels",
    "static_kernels",
    "training_curves",
    "weight_field",
]

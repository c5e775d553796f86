"""MaxViT against timm."""

from flax import nnx

from dwconv_jax.models.classifier import Classifier, ClassifierConfig
from dwconv_jax.models.families import maxvit
from tests import golden
from tests.models.families.golden import check_golden


def test_maxvit_is_timms():
    config = golden.load("zoo_maxvit").config
    family = maxvit.family(config.pop("stem_features"))
    mixer = maxvit.VARIANTS["maxvit_tiny_tf_224"].mixer
    mixer = {**mixer, "channels_per_group": config.pop("head_features")}
    config = ClassifierConfig(patch_size=2, **config)
    check_golden("maxvit", lambda: Classifier(family, mixer, config, rngs=nnx.Rngs(0)))

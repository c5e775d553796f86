"""Parameters that regular expressions name."""

import pytest

from dwconv_jax.errors import UserError
from dwconv_jax.training.optimizer.patterns import matching

PARAMS = {
    "stages": {
        0: {"blocks": {0: {"norm_in": {"scale": 0}, "fc": {"kernel": 0}}}},
        1: {"blocks": {0: {"fc": {"kernel": 0}}}},
    },
    "head": {"kernel": 0, "bias": 0},
}


def marked(*patterns):
    return matching(PARAMS, patterns, "config.train_only")


def test_words_and_regular_expressions():
    found = marked("norm", "head")
    assert found["head"] == {"kernel": True, "bias": True}
    assert found["stages"][0]["blocks"][0] == {
        "norm_in": {"scale": True},
        "fc": {"kernel": False},
    }
    assert not found["stages"][1]["blocks"][0]["fc"]["kernel"]
    found = marked(r"^stages/1/.*kernel$")
    assert found["stages"][1]["blocks"][0]["fc"]["kernel"]
    assert found["head"] == {"kernel": False, "bias": False}


def test_a_pattern_that_matches_nothing_is_named_with_what_there_is():
    with pytest.raises(UserError) as error:
        marked("head", "norms")
    assert str(error.value) == (
        "config.train_only=('head', 'norms'): 'norms' is in the path of no parameter; it is "
        "unknown; legal: bias, blocks, fc, head, kernel, norm_in, scale, stages; did you mean "
        "'norm_in'?"
    )

"""Declared fields: checked when they are set, and read from configs."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from dwconv_jax.data.settings import Settings, check_of, int_from, one_of, setting
from dwconv_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    path = "config.inner"

    name: str = setting("a", "A name.", one_of("alpha", "beta", "a"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(Settings):
    path = "config"

    count: int = setting(1, "A count.", int_from(1))
    limit: int | None = setting(None, "A limit.", int_from(2))
    share: float = setting(0.5, "A share.")
    flag: bool = setting(False, "A flag.")
    file: str | None = setting(None, "A file.")
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(count=0), "config.count=0 must be an int >= 1"),
        (dict(count=True), "config.count=True must be an int >= 1"),
        (dict(count="3"), "config.count='3' must be an int >= 1"),
        (dict(count=None), "config.count=None must be an int >= 1"),
        (dict(limit=1), "config.limit=1 must be None or an int >= 2"),
        (dict(share="x"), "config.share='x' must be a number"),
        (dict(flag=1), "config.flag=1 must be True or False"),
        (dict(file=3), "config.file=3 must be None or a string"),
        (dict(share=float("nan")), "config.share=nan must be a number"),
        (dict(share=10**400), "config.share=1.* must be a number"),
        (
            dict(inner={"name": "alfa"}),
            "config.inner.name='alfa' is unknown; legal: alpha, beta, a; did you mean 'alpha'",
        ),
        (dict(inner=3), "config.inner must hold fields, got 3"),
        (dict(inner={}), "config.inner lacks name; it must have name"),
        (dict(cuont=3), "unknown field config.cuont; did you mean 'count'. known: count, file"),
    ],
)
def test_mistakes_are_one_sentence(fields: dict, message: str) -> None:
    config = {**dataclasses.asdict(Outer()), **fields}
    for kind in dict, ConfigDict:
        with pytest.raises(UserError, match=message) as raised:
            Outer.from_config(kind(config))
        assert "\n" not in str(raised.value)


def test_instances_are_checked_like_configs() -> None:
    with pytest.raises(UserError, match=r"config.count=0 must be an int >= 1"):
        Outer(count=0)
    outer = Outer(limit=2, inner=Inner(name="beta"))
    assert Outer.from_config(outer) is outer
    assert Outer.from_config(ConfigDict(dataclasses.asdict(outer))) == outer


def test_checks_say_what_is_legal() -> None:
    words = {f.name: check_of(f).words for f in dataclasses.fields(Outer) if f.name != "inner"}
    assert words["limit"] == "None or an int >= 2"
    assert words["flag"] == "True or False"
    (name,) = dataclasses.fields(Inner)
    assert check_of(name).words == "one of 'alpha', 'beta', 'a'"

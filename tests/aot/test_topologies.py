"""Devices that are not there. Only CPU ones need nothing installed."""

import importlib.util

import jax
import pytest

from dwconv_jax.aot import topologies
from dwconv_jax.aot.topologies import abstract_devices

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")


@pytest.fixture(autouse=True)
def started():
    """JAX has made its devices: their number is fixed."""
    assert len(jax.devices()) == 8


def test_virtual_processors():
    assert abstract_devices("cpu:4") == jax.devices()[:4]


@needs_libtpu
@pytest.mark.parametrize(
    ("topology", "count", "kind"),
    [("v5e:4x4", 16, "TPU v5 lite"), ("v4:2x2x2", 8, "TPU v4"), ("v6e:2x2", 4, "TPU v6 lite")],
)
def test_one_device_a_chip(topology, count, kind):
    devices = abstract_devices(topology)
    assert len(devices) == count
    assert {device.device_kind for device in devices} == {kind}


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("v9:2x2", "topology='v9:2x2' is unknown; legal are names like 'v5e:16x16'"),
        ("v5e", "topology='v5e' is unknown"),
        ("cpu:0", "must be 'cpu:N' with N devices"),
        ("h100:2x2", "must be 'h100:N' with N devices"),
        ("h100:12", "must be at most 8 GPUs, or a multiple of 8"),
        ("cpu:9", "'cpu:9' exceeds the 8 devices .* JAX_NUM_CPU_DEVICES"),
        pytest.param("v5e:3x3", "'v5e:3x3' is no TPU slice: .*divisible", marks=needs_libtpu),
    ],
)
def test_topologies_that_cannot_be(topology, message):
    with pytest.raises(ValueError, match=message):
        abstract_devices(topology)


@pytest.mark.parametrize(
    ("topology", "package"), [("v5e:2x2", "libtpu"), ("h100:8", "jax-cuda13-plugin")]
)
def test_what_to_install_is_said(topology, package, monkeypatch):
    def not_there(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(topologies.topologies, "get_topology_desc", not_there)
    with pytest.raises(ImportError, match=f"pip install .*{package}"):
        abstract_devices(topology)

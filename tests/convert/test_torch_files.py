"""State dict files: round trips, what PyTorch wrote, and files that mean harm."""

import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from dwconv_jax.convert import pickles
from dwconv_jax.convert.pickles import Global, PersistentId, PickledObject
from dwconv_jax.convert.torch_files import read_state_dict, write_state_dict

FIXTURES = Path(__file__).parent / "fixtures"
SUFFIXES = [".pth", ".safetensors"]
DTYPES = [
    *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.bool_),
]
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
BARE = {
    "weight": WEIGHT,
    "half": WEIGHT.astype(np.float16),
    "brain": WEIGHT.astype(ml_dtypes.bfloat16),
    "double": WEIGHT.astype(np.float64),
    "steps": np.array(7),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 3), np.float32),
}


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert type(actual[name]) is np.ndarray
        assert actual[name].dtype == array.dtype.newbyteorder("="), name
        assert actual[name].shape == array.shape, name
        assert actual[name].tobytes() == array.astype(actual[name].dtype).tobytes(), name


def zip_file(path: Path, pickled: bytes, **members: bytes) -> Path:
    """A checkpoint with any pickle, and four float32 numbers as its storage 0."""
    members = {"data.pkl": pickled, "data/0": np.arange(4, dtype="<f4").tobytes()} | members
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(f"archive/{name}", data)
    return path


def tensor(shape=(4,), strides=(1,), offset=0, kind="torch.FloatStorage", key="0", length=4):
    storage = PersistentId(("storage", Global(kind), key, "cpu", length))
    return PickledObject("torch._utils._rebuild_tensor_v2", (storage, offset, shape, strides))


# ---- Round trips.


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (5,), (2, 3, 1)])
def test_round_trip(tmp_path, suffix, dtype, shape):
    values = np.random.default_rng(0).normal(size=shape) * 50
    expected = {"layers.0.weight": np.asarray(values).astype(dtype), "b": np.zeros(1, dtype)}
    write_state_dict(tmp_path / f"model{suffix}", expected)
    assert_same(read_state_dict(tmp_path / f"model{suffix}"), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_keeps_every_bit_of_a_nan(tmp_path, suffix):
    expected = {"x": np.array([0x7FC00001, 0xFF800000, 0x80000000], np.uint32).view(np.float32)}
    write_state_dict(tmp_path / f"model{suffix}", expected)
    assert_same(read_state_dict(tmp_path / f"model{suffix}"), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_of_any_memory_layout(tmp_path, suffix):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {"T": base.T, "step": base[::2, ::-3], "big": base.astype(">f4")}
    write_state_dict(tmp_path / f"model{suffix}", expected)
    assert_same(read_state_dict(tmp_path / f"model{suffix}"), expected)


def test_storages_are_aligned(tmp_path):
    path = tmp_path / "model.pth"
    write_state_dict(path, BARE)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        for member in file.infolist():
            name, extra = struct.unpack("<2H", data[member.header_offset :][26:30])
            assert (member.header_offset + 30 + name + extra) % 64 == 0


# ---- Files that PyTorch wrote.


@pytest.mark.parametrize("name", ["bare.pth", "protocol_4.pth"])
def test_bare_state_dict(name):
    assert_same(read_state_dict(FIXTURES / name), BARE)


def test_training_checkpoint_with_config_and_optimizer():
    expected = {"weight": np.full((2, 3), 0.5, np.float32), "bias": np.full(2, -1, np.float32)}
    assert_same(read_state_dict(FIXTURES / "training.pth"), expected)


def test_data_parallel_prefix_goes():
    expected = {
        "weight": np.ones(2, np.float32),
        "bias": np.zeros(2, np.float32),
        "running_mean": np.zeros(2, np.float32),
        "running_var": np.ones(2, np.float32),
        "num_batches_tracked": np.array(0),
    }
    assert_same(read_state_dict(FIXTURES / "parallel.pth"), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_prefix_stays_unless_all_names_have_it(tmp_path, suffix):
    expected = {"module.weight": WEIGHT, "head": WEIGHT}
    write_state_dict(tmp_path / f"model{suffix}", expected)
    assert_same(read_state_dict(tmp_path / f"model{suffix}"), expected)


def test_views_of_a_shared_storage():
    base = np.arange(12, dtype=np.float32)
    actual = read_state_dict(FIXTURES / "views.pth")
    expected = {
        "transposed": base.reshape(3, 4).T,
        "tail": base[8:],
        "every_other": base[1::2],
        "expanded": np.full(5, 3, np.float32),
    }
    assert_same(actual, expected)
    assert np.shares_memory(actual["transposed"], actual["tail"])


def test_big_endian_file(tmp_path):
    big = np.arange(4, dtype=">f4").tobytes()
    members = {"data/0": big, "byteorder": b"big"}
    path = zip_file(tmp_path / "big.pth", pickles.dumps({"x": tensor()}), **members)
    assert_same(read_state_dict(path), {"x": np.arange(4, dtype=np.float32)})


def test_legacy_file():
    assert_same(read_state_dict(FIXTURES / "legacy.pth"), BARE)


def test_every_truncation_of_a_legacy_file_is_an_error(tmp_path):
    data, path = (FIXTURES / "legacy.pth").read_bytes(), tmp_path / "bad.pth"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"^\S+bad.pth: "):
            read_state_dict(path)


def legacy_file(path: Path, checkpoint, *, keys=("0",), length=4, little_endian=True) -> Path:
    """A checkpoint of PyTorch before 1.6 with four float32 numbers as its storage 0."""
    system = {"little_endian": little_endian}
    heads = [pickle.dumps(head, 2) for head in (0x1950A86A20F9469CFC6C, 1001, system)]
    order = "<" if little_endian else ">"
    storage = np.array(length, f"{order}i8").tobytes() + np.arange(4, dtype=f"{order}f4").tobytes()
    pickled = [*heads, pickles.dumps(checkpoint), pickle.dumps(list(keys), 2)]
    path.write_bytes(b"".join([*pickled, storage]))
    return path


def legacy_tensor(*, key="0", kind="torch.FloatStorage", length=4, view=None, shape=(4,)):
    storage = PersistentId(("storage", Global(kind), key, "cpu", length, view))
    return PickledObject("torch._utils._rebuild_tensor_v2", (storage, 0, shape, (1,)))


@pytest.mark.parametrize("little_endian", [True, False])
def test_legacy_file_of_either_byte_order(tmp_path, little_endian):
    path = legacy_file(tmp_path / "x.pth", {"x": legacy_tensor()}, little_endian=little_endian)
    assert_same(read_state_dict(path), {"x": np.arange(4, dtype=np.float32)})


@pytest.mark.parametrize(
    ("checkpoint", "options", "message"),
    [
        ({"x": legacy_tensor(shape=(5,))}, {}, "tensor 'x' reaches outside its storage"),
        ({"x": legacy_tensor(length=5)}, {}, "has no storage 0 of 5 x float32"),
        ({"x": legacy_tensor(key="1")}, {}, "has a storage '0', to which no tensor refers"),
        ({"x": legacy_tensor()}, dict(keys=()), "has no storage 0"),
        ({"x": legacy_tensor()}, dict(keys=[["0"]]), r"has a storage \['0'\]"),
        ({"x": legacy_tensor()}, dict(length=2**62), "is truncated, or damaged"),
        ({"x": legacy_tensor()}, dict(length=-1), "is truncated, or damaged"),
        ({"x": legacy_tensor(view=("0", 0, 4))}, {}, "refers to a storage of another kind"),
        ({"x": legacy_tensor(kind="torch.Size")}, {}, "refers to a storage of another kind"),
        ({"x": PickledObject("os.system", ("ls",))}, {}, "refuses to load: .* asks for os.system"),
        ({}, {}, "has a storage '0', to which no tensor refers"),
    ],
)
def test_damaged_and_hostile_legacy_files(tmp_path, checkpoint, options, message):
    path = legacy_file(tmp_path / "bad.pth", checkpoint, **options)
    with pytest.raises(ValueError, match=rf"bad.pth: {message}"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["bare.pth", "views.pth", "parallel.pth", "legacy.pth"])
def test_reads_what_torch_reads(name):
    torch = pytest.importorskip("torch")
    loaded = torch.load(FIXTURES / name, weights_only=True)
    expected = loaded.get("state_dict", loaded)
    actual = read_state_dict(FIXTURES / name)
    for key, value in expected.items():
        array = actual[key.removeprefix("module.")]
        assert str(value.dtype) == f"torch.{array.dtype}"
        # float64 holds every value of these dtypes, bfloat16 included.
        np.testing.assert_array_equal(array.astype(np.float64), value.detach().double().numpy())


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_we_write(tmp_path, mmap):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    expected = {np.dtype(d).name: np.arange(6).reshape(2, 3).T.astype(d) for d in DTYPES} | BARE
    write_state_dict(path, expected)
    loaded = torch.load(path, weights_only=True, mmap=mmap)
    assert loaded.keys() == expected.keys()
    for name, value in loaded.items():
        assert str(value.dtype).removeprefix("torch.") == expected[name].dtype.name
        assert value.is_contiguous()
        np.testing.assert_array_equal(value.double().numpy(), expected[name].astype(np.float64))


# ---- Files that mean harm.


class Touch:
    """Unpickled by `pickle.loads`, it would create the file `path`."""

    def __init__(self, path: Path, how: str):
        self.path, self.how = path, how

    def __reduce__(self):
        if self.how == "eval":
            return eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",)
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("how", ["eval", "system"])
@pytest.mark.parametrize("where", ["model", "optimizer"])
def test_code_is_refused_and_not_run(tmp_path, protocol, how, where):
    sentinel = tmp_path / "sentinel"
    hostile = pickle.dumps({where: Touch(sentinel, how)}, protocol)
    pickle.loads(hostile)
    assert sentinel.exists()  # So this pickle would have worked.
    sentinel.unlink()
    with pytest.raises(ValueError, match=rf"bad.pth: refuses to load: .* asks for \w+\.{how}"):
        read_state_dict(zip_file(tmp_path / "bad.pth", hostile))
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins.getattr",
        "__builtin__.eval",
        "importlib.import_module",
        "collections.OrderedDict.__class__",
        "collections.OrderedDict.__init__.__globals__",
        "torch.FloatStorage.__class__",
        "torch.load",
        "torch.hub.load",
        "numpy.load",
        "torch.storage._load_from_bytes",
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_other_globals_are_refused(tmp_path, name, stacked):
    module, _, attribute = name.partition(".")
    if stacked:
        text = [b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute)]
        asked = b"".join(text) + pickle.STACK_GLOBAL
    else:
        asked = pickle.GLOBAL + f"{module}\n{attribute}\n".encode()
    path = zip_file(tmp_path / "bad.pth", pickle.PROTO + b"\x04" + asked + pickle.STOP)
    with pytest.raises(ValueError, match=rf"bad.pth: refuses to load: its pickle asks for {name}"):
        read_state_dict(path)


def reduced(function: bytes, *arguments: bytes, then: bytes = b"") -> bytes:
    return b"\x80\x02" + function + b"(" + b"".join(arguments) + b"tR" + then + b"."


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
BROKEN = {
    "call of a string": reduced(b"X\x02\x00\x00\x00ls"),
    "call of a placeholder": reduced(b"cargparse\nNamespace\n)R"),
    "call with a list": b"\x80\x02ccollections\nOrderedDict\n]R.",
    "items of a string": b"\x80\x02X\x02\x00\x00\x00lsK\x01K\x02s.",
    "OrderedDict with arguments": reduced(b"ccollections\nOrderedDict\n", b"]"),
    "unhashable key": b"\x80\x02}]Ns.",
    "deeply nested key": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02NNt.",
    "unknown memo": b"\x80\x02h\x07.",
    "no end": b"\x80\x02}",
    "no pickle": b"\xff\xfe",
    "nothing": b"",
    "odd items": b"\x80\x02}(Nu.",
    "extension registry": b"\x80\x02\x82\x01.",
    "old class": b"(ios\nsystem\n.",
    "state of a function": b"\x80\x02" + REBUILD + b"}X\x08\x00\x00\x00__code__Nsb.",
    "state of a dict": b"\x80\x02}}X\x05\x00\x00\x00itemsNsb.",
    "tensor of nothing": reduced(REBUILD),
    "tensor of a parameter": b"\x80\x02}X\x01\x00\x00\x00x"
    + reduced(b"ctorch._utils\n_rebuild_parameter\n")[2:-1]
    + b"s.",
    "recursive dict": b"\x80\x02}q\x00X\x01\x00\x00\x00xh\x00s.",
    "huge memo index": b"\x80\x02Nr\xff\xff\xff\xff.",
    "huge string": b"\x80\x02X\xff\xff\xff\x7fabc.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles_are_one_clear_error(tmp_path, name):
    path = zip_file(tmp_path / "bad.pth", BROKEN[name])
    with pytest.raises(ValueError, match=r"^\S+bad.pth: \w+"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "hostile",
    [
        tensor(offset=1),
        tensor(offset=-1),
        tensor(offset=2**80),
        tensor(shape=(5,)),
        tensor(shape=(-1,)),
        tensor(shape=("4",)),
        tensor(shape=(2, 2)),
        tensor(shape=(2**62,), strides=(4,)),
        tensor(shape=(2**80,)),
        tensor(strides=(2,)),
        tensor(strides=(-1,)),
        tensor(strides=(2**62,)),
        tensor(strides=("1",)),
        tensor(shape=(2**40,), strides=(0,)),
        tensor(shape=(2**31, 2**31, 2**31), strides=(0, 0, 0)),
        tensor(shape=(1,) * 99, strides=(0,) * 99),
        tensor(length=8),
        tensor(length=-1),
        tensor(kind="torch.DoubleStorage"),
        tensor(kind="argparse.Namespace"),
        tensor(key="1"),
        tensor(key="../data/0"),
        tensor(key="/etc/hostname"),
        tensor(key=0),
        PickledObject("torch._utils._rebuild_tensor_v2", (PersistentId("0"), 0, (4,), (1,))),
        PickledObject("torch._utils._rebuild_tensor_v2", ({}, 0, (4,), (1,))),
        PickledObject("torch._utils._rebuild_parameter", (tensor(offset=1),)),
        PersistentId(("storage", Global("torch.FloatStorage"), "0", "cpu", 4)),
        PickledObject("yacs.config.CfgNode", ()),
        Global("torch.FloatStorage"),
        {},
        3,
    ],
)
def test_hostile_tensors_are_one_clear_error(tmp_path, hostile):
    path = zip_file(tmp_path / "bad.pth", pickles.dumps({"model": {"x": hostile}}))
    with pytest.raises(ValueError, match=r"^\S+bad.pth: "):
        read_state_dict(path)


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as file:
        length = 10_000_000
        file.writestr("archive/data.pkl", pickles.dumps({"x": tensor(length=length)}))
        file.writestr("archive/data/0", bytes(4 * length))
    with pytest.raises(ValueError, match=r"bomb.pth: has compressed or overlapping members"):
        read_state_dict(tmp_path / "bomb.pth")


# ---- Errors.


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.pth does not exist"):
        read_state_dict(tmp_path / "gone.pth")


@pytest.mark.parametrize("name", ["folder", "folder.pth", "folder.safetensors"])
def test_directory(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"{name} is a directory"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".pth", b"", "is empty"),
        (".pth", b"<html>404</html>\n", "was written neither by torch.save nor by safetensors"),
        (".pth", pickle.dumps({"x": 1}, 2), "was written neither"),
        (".safetensors", b"", "is not a safetensors file"),
        (".safetensors", b"<html>404</html>\n", "is not a safetensors file"),
        (".safetensors", struct.pack("<Q", 2**62) + b"{}", "is not a safetensors file"),
    ],
)
def test_files_of_another_kind(tmp_path, suffix, content, message):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad{suffix}: {message}"):
        read_state_dict(path)


def test_safetensors_of_a_foreign_dtype(tmp_path):
    header = b'{"x":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[0,2]}}'
    path = tmp_path / "bad.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    with pytest.raises(ValueError, match=r"bad.safetensors: is not a safetensors file .*float8"):
        read_state_dict(path)


def test_zip_file_of_another_kind(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"bad.pth: is a zip file without the one data.pkl"):
        read_state_dict(tmp_path / "bad.pth")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation_is_an_error(tmp_path, suffix):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"bad{suffix}"
    write_state_dict(whole, {"x": WEIGHT, "y": WEIGHT})
    data = whole.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=rf"bad{suffix}: "):
            read_state_dict(path)


def test_damaged_data(tmp_path):
    path = tmp_path / "bad.pth"
    write_state_dict(path, {"x": WEIGHT})
    path.write_bytes(path.read_bytes().replace(WEIGHT.tobytes(), WEIGHT[::-1].tobytes()))
    with pytest.raises(ValueError, match=r"bad.pth: is a damaged zip file \(Bad CRC"):
        read_state_dict(path)


def test_unknown_byte_order(tmp_path):
    path = zip_file(tmp_path / "bad.pth", pickles.dumps({"x": tensor()}), byteorder=b"middle")
    with pytest.raises(ValueError, match=r"bad.pth: has byteorder 'middle': legal are"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({}, "holds no tensors"),
        ({"model": {}}, "holds no tensors"),
        ((tensor(), tensor()), "holds a tuple: legal is a state dict"),
        ({"x": tensor(), "epoch": 3}, "entry 'epoch' has type int: legal is"),
        ({"model": {"x": tensor(), "y": "z"}}, "entry 'y' has type str: legal is"),
        ({"model": {3: tensor()}}, "entry 3 has type PickledObject: legal is"),
        ({"net": {"x": tensor()}}, "entry 'net' has type dict: legal is"),
    ],
)
def test_checkpoints_without_a_state_dict(tmp_path, checkpoint, message):
    path = zip_file(tmp_path / "bad.pth", pickles.dumps(checkpoint))
    with pytest.raises(ValueError, match=rf"bad.pth: {message}"):
        read_state_dict(path)


def test_write_errors(tmp_path):
    with pytest.raises(ValueError, match=r"model.npz: suffix '.npz' names no format: legal are"):
        write_state_dict(tmp_path / "model.npz", BARE)
    with pytest.raises(ValueError, match=r"m.pth: entry 'x' has dtype complex64: legal are"):
        write_state_dict(tmp_path / "m.pth", {"x": WEIGHT.astype(np.complex64)})
    with pytest.raises(TypeError, match=r"m.pth: entry 'x' has type list: legal are"):
        write_state_dict(tmp_path / "m.pth", {"x": [1.0]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"model{suffix}"
    write_state_dict(path, BARE)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_state_dict(path, {"x": WEIGHT})
    assert_same(read_state_dict(path), BARE)
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_is_optional(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.touch()
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match="install safetensors"):
        read_state_dict(path)
    with pytest.raises(ImportError, match="install safetensors"):
        write_state_dict(path, BARE)

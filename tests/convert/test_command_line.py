"""`python -m dwconv_jax.convert`: there and back, and what it refuses."""

import pytest

from dwconv_jax.convert import __main__ as command
from dwconv_jax.convert import read_state_dict, write_state_dict
from dwconv_jax.convert.__main__ import main
from tests.convert.released import assert_same, random_state_dict, small_model
from tests.convert.test_torch_files import zip_file

SWIN = ["--model=swin_tiny", "--override=embed_dim=8", "--override=depths=(1, 2)"]
SWIN += ["--override=window_size=4", "--override=num_heads=(1, 2)"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "released.pth"
    write_state_dict(path, random_state_dict(small_model("swin_tiny"), image_size=64))
    return path


def error(capsys, *arguments):
    """The message that a command ends in."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    code = caught.value.code
    return code if isinstance(code, str) else capsys.readouterr().err


def test_there_and_back(tmp_path, source, capsys):
    weights, written = tmp_path / "weights", tmp_path / "written.safetensors"
    main([str(source), str(weights), *SWIN])
    main([str(weights), str(written), *SWIN, "--image_size=64"])
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {weights}: swin_tiny with 3 classes",
        f"wrote {written}: swin_tiny with 3 classes",
    ]
    assert_same(read_state_dict(written), read_state_dict(source))


def test_an_existing_destination_is_refused(tmp_path, source, capsys):
    before = source.read_bytes()
    assert error(capsys, source, source, *SWIN) == (
        f"error: {source} exists already; name a new file or directory"
    )
    assert source.read_bytes() == before


def test_a_wrong_model_is_named_and_nothing_is_written(tmp_path, source, capsys):
    for destination in (tmp_path / "weights", tmp_path / "weights.pth"):
        message = error(capsys, source, destination, "--model=dwnet_tiny")
        assert message.startswith(f"error: {source}: state dict does not fit the model: ")
        assert len(message.splitlines()) < 70
        assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04", "is a truncated zip file"),
        (b"<html>", "was written neither by torch.save nor by safetensors"),
    ],
)
def test_bad_files(tmp_path, capsys, content, message):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    assert error(capsys, path, tmp_path / "weights", *SWIN) == f"error: {path}: {message}"
    assert list(tmp_path.iterdir()) == [path]


def test_a_hostile_file(tmp_path, capsys):
    path = zip_file(tmp_path / "bad.pth", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    message = error(capsys, path, tmp_path / "weights", *SWIN)
    assert message.startswith(f"error: {path}: refuses to load: its pickle asks for os.system")
    assert list(tmp_path.iterdir()) == [path]


def test_missing_sources_and_empty_ones(tmp_path, capsys):
    missing = error(capsys, tmp_path / "gone.pth", tmp_path / "weights", *SWIN)
    assert missing == f"error: {tmp_path}/gone.pth does not exist"
    empty = error(capsys, tmp_path, tmp_path / "weights", *SWIN)
    assert empty == f"error: {tmp_path} is damaged, or no checkpoint of weights"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model=dwnet", "argument --model: invalid choice: 'dwnet' (choose from"),
        ("--override=depths", "'depths' is not NAME=VALUE, a Python value"),
        ("--override=depths=one", "'depths=one' is not NAME=VALUE, a Python value"),
        ("--override=depth=3", "error: unknown override 'depth'; did you mean 'depths'?"),
        ("--override=depths=3", "error: --override=depths=3 must be of type Sequence[int]"),
        ("--override=depths=(1, 'a')", "error: --override=depths=(1, 'a') must be of type"),
        ("--override=embed_dim=8.0", "error: --override=embed_dim=8.0 must be of type int"),
        ("--override=num_heads='a'", "must be of type int | Sequence[int] | None"),
        ("--override=image_size=(8,)", "must be of type int | tuple[int, int] | None"),
    ],
)
def test_wrong_arguments(tmp_path, source, capsys, argument, message):
    assert message in error(capsys, source, tmp_path / "weights", *SWIN, argument)
    assert list(tmp_path.iterdir()) == [source]


def test_a_bug_keeps_its_traceback(tmp_path, source, monkeypatch):
    def broken(*args, **kwargs):
        raise TypeError("of the package")

    monkeypatch.setattr(command, "create_model", broken)
    with pytest.raises(TypeError, match="of the package"):
        main([str(source), str(tmp_path / "weights"), *SWIN])

"""`--config`: names, variants, paths, and overrides."""

import importlib.util
from pathlib import Path

import pytest

from dwconv_jax.cli.config import ConfigArgumentParser, config_names, find_config
from dwconv_jax.errors import UserError

# Of ml_collections 1.1, whenever it reads a config file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module.. method:DeprecationWarning")


def parse(*arguments, **options):
    return ConfigArgumentParser("prog", None, **options).parse_args(arguments).config


def test_every_config_has_a_name():
    assert config_names() == sorted(path.stem for path in Path("configs").glob("*.py"))
    for name in config_names():
        path = Path(find_config(name))
        assert path.samefile(f"configs/{name}.py")
        assert importlib.util.find_spec(f"dwconv_jax.configs.{name}")


def test_names_variants_and_paths_are_the_same_config():
    assert parse("--config=digits") == parse("--config", "configs/digits.py")
    assert parse("--config=cifar10:swin").model.name == "swin_tiny"
    assert parse("--config=./configs/cifar10.py:dwnet").model.name == "dwnet_tiny"
    assert parse("--config=study_digits").seeds == (0, 1, 2)
    assert parse() is None


def test_overrides_may_stand_anywhere():
    config = parse(
        "--config.batch_size=7", "--config=digits", "--config.model.depths", "(1, 2)",
        "--config.optimizer.clip_norm=inf", "--config.init_from=None", "--config.model.remat",
    )  # fmt: skip
    assert config.batch_size == 7 and config.model.depths == (1, 2) and config.model.remat
    assert config.optimizer.clip_norm == float("inf") and config.init_from is None


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"^--config=mnist:a is unknown; .*ade20k, cifar10, .*$"):
        find_config("mnist:a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=digits", "--config.batchsize=3"], "field config.batchsize; did you mean 'bat"),
        (["--config=digits", "--config.model.embd_dim=3"], "config.model.embd_dim; did you mean"),
        (["--config=digits", "--config.optimizer.lr=1"], "unknown field config.optimizer.lr$"),
        (["--config=digits", "--config.batch_size=many"], "config.batch_size=many: invalid lit"),
        (["--config=gone.py"], r"error: \[Errno 2\] No such file or directory: 'gone.py'"),
        (["--config=mnist"], r"error: --config=mnist is unknown; legal are a \.py file and ade"),
        (["--config=cifar10:vgg"], r"error: variant of .* must be one of .*, got 'vgg'"),
        (["--config.batch_size=3"], "error: unknown arguments without --config: --config.batch_"),
        (["--config=digits", "--workdirs=x"], "Unknown command line flag 'workdirs'"),
        (["--config=digits", "again"], "error: unknown arguments: again"),
        (["again"], "error: unknown arguments: again; see prog --help"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(SystemExit, match=message) as exit_:
        parse(*arguments)
    assert "\n" not in exit_.value.code


def test_a_config_can_be_required():
    with pytest.raises(SystemExit, match="error: the following arguments are required: --config"):
        parse(required=True)


@pytest.mark.parametrize("bug", ["base_config().nothing", "{}['nothing']", "int('nothing')"])
def test_a_bug_in_a_config_file_shows_its_traceback(bug, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        f"from dwconv_jax.training import base_config\n\ndef get_config():\n    return {bug}\n"
    )
    with pytest.raises(SystemExit, match="error: the config file raised the exception above"):
        parse(f"--config={path}")
    lines = capsys.readouterr().err.splitlines()
    assert any(f'File "{path}", line 4, in get_config' in line for line in lines)
    assert "nothing" in lines[-1]

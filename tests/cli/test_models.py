"""The list of models."""

import subprocess
import sys

import pytest

from dwconv_jax.cli.models import main, matching
from dwconv_jax.models import TASK_VARIANTS, VARIANTS


def test_a_row_has_what_is_known(capsys):
    main(["convnext_[at]*"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2:] == [
        ["convnext_atto", "3,695,520", "0.55", "G", "224", "75.7", "timm"],
        ["convnext_tiny", "28,589,128", "4.46", "G", "224", "82.1", "authors"],
    ]
    main(["upernet_dwnet_tiny"])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["upernet_dwnet_tiny", "55,826,252"]


def test_patterns():
    assert matching(None) == list(VARIANTS)
    assert matching("*") == [*VARIANTS, *TASK_VARIANTS]
    assert matching("dwnet") == ["dwnet_tiny", "dwnet_base"]
    assert matching("*_dwnet_base")[:2] == ["dynamic_dwnet_base", "i_dynamic_dwnet_base"]
    assert matching("swin_tiny_patch4_window7_224") == ["swin_tiny"]  # timm's name
    with pytest.raises(SystemExit, match="error: no model matches 'resnet'"):
        main(["resnet"])


_LIGHT = """
import sys
from dwconv_jax.cli.main import main

main([])
for command in ("train", "eval", "predict", "export", "report", "study", "compile"):
    try:
        main([command, "--help"])
    except SystemExit:
        pass
assert "jax" not in sys.modules
main(["models", "dwnet"])
assert not {"tensorflow", "keras", "clu", "orbax", "matplotlib"} & set(sys.modules)
"""


def test_help_does_not_import_jax_nor_the_list_training_code():
    result = subprocess.run([sys.executable, "-c", _LIGHT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "dwnet_base" in result.stdout

"""How Sphinx builds these pages: `make docs`."""

import sys
from pathlib import Path

from dwconv_jax.version import __version__

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "dwconv_jax"
version = release = __version__
copyright = "the dwconv_jax authors"

extensions = [
    "config_fields",
    "mathtext",
    "model_variants",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathtext"

# Docstrings follow Google's style, with `code` in single backticks.
default_role = "code"
# Flax's metaclass hides the arguments of `__init__`: the class page shows that method instead.
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__new__"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 70

html_theme = "furo"
html_title = "dwconv_jax"
html_static_path = ["_static"]
html_css_files = ["custom.css"]

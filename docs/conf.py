"""How Sphinx builds these pages: `make docs`."""

from dwconv_jax.version import __version__

project = "dwconv_jax"
version = release = __version__
copyright = "the dwconv_jax authors"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # compile reports begin at a lower heading

# Docstrings are Google's, with `code` in single backticks.
default_role = "code"
# Flax's metaclass hides what `__init__` takes.
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = "dwconv_jax"

"""The site: guides in Markdown, and a reference made of the docstrings. `make docs` builds it into build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

import yolact  # noqa: E402 - from this checkout

project = "yolact"
version = release = yolact.__version__
html_title = f"yolact {release}"
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
smartquotes_action = "De"  # dashes and ellipses; docstrings quote code
html_copy_source = False
exclude_patterns = ["extensions"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "commands", "links"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_param = False  # several names share one description
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

# A word between backticks in a docstring is code, and a link where it names something that the reference holds.
default_role = "py:obj"
nitpicky = True
nitpick_ignore = [("py:class", "yolact.instances.OnHost")]  # what an Instances keeps to itself
nitpick_ignore_regex = [
    ("py:obj", r"(?!yolact\.).*"),
    ("py:(class|exc|attr)", r"(?!yolact\.).*"),  # of other libraries: nothing is fetched when the site is built
]

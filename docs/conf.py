"""The documentation site: `make docs` builds it into build/docs, and takes every warning for an error."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from cli_reference import write_reference  # noqa: E402

import podlt  # noqa: E402

project = "podlt"
author = "the authors of podlt"
copyright = "2026, the authors of podlt, Apache-2.0"
version = release = podlt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.doctest"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
exclude_patterns = ["_build", "requirements.txt"]
suppress_warnings = ["myst.header"]  # pages that are also read on their own begin with any level

html_theme = "furo"
html_title = "podlt"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

write_reference(HERE / "reference" / "cli.md")

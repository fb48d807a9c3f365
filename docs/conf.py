"""Sphinx settings: MyST pages in furo; API and commands from the code."""

import sys
from pathlib import Path

import pyws

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pyws"
author = "the pyws authors"
release = version = pyws.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "command_pages",
    "docstrings",
    "mathml",
    "module_pages",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["deflist", "dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90

smartquotes_action = "q"  # two dashes begin an option

html_theme = "furo"
html_title = f"pyws {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_show_copyright = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

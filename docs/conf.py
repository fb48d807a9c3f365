"""Sphinx settings: MyST pages, furo, numpydoc docstrings."""

import pyws

project = "pyws"
author = "the pyws authors"
copyright = author
release = version = pyws.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["deflist", "dollarmath", "colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"pyws {release}"
html_static_path = ["_static"]
html_show_copyright = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

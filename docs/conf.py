"""
How Sphinx makes the site and the man pages of dcounter from the pages of this folder: `make docs`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dcounter import __version__  # noqa: E402 - the tree that is described, whatever is installed

project = "dcounter"
author = "dcounter contributors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "docs.reference.pages"]
exclude_patterns = ["reference"]
# Examples whose language is not said are shell commands and their output, or plain text.
highlight_language = "text"
# How deep the headings are that links lead to.
myst_heading_anchors = 4
# Pictures have classes.
myst_enable_extensions = ["attrs_inline"]
suppress_warnings = [
    # "..." stands for what an example leaves out.
    "misc.highlighting_failure",
]

html_theme = "furo"
html_title = f"dcounter {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/icon.svg"
# The colours of the pages that the daemon serves.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0a5cad", "color-brand-content": "#0a5cad"},
    "dark_css_variables": {"color-brand-primary": "#85bdf8", "color-brand-content": "#85bdf8"},
    "light_logo": "icon.svg",
    "dark_logo": "icon.svg",
}

man_pages = [
    ("cli", "dcounter", "count items per tenant, exactly, while machines die", author, 1),
    (
        "configuration",
        "dcounter.toml",
        "options of a dcounter daemon, and the file that sets them",
        author,
        5,
    ),
]

"""
Links between files of the repository, as links between pages of the site; pictures in the reader's theme.
"""

import re
from collections.abc import Mapping
from os.path import normpath, relpath
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SITE: Final = "docs"

SHOWN: Final[Mapping[str, str]] = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/results.md": "results.md",
    "etc/README.md": "systemd.md",
}
"""
Pages that show a file from outside of the folder of the site, by the path of that file.
"""

_IMAGES: Final = {".png", ".svg"}
_LIGHT: Final = re.compile(r"(!\[[^\]\n]*\]\([\w./-]+)-light\.png\)")
_LINK: Final = re.compile(r"(?P<image>!?)\[(?P<text>[^\]\n]*)\]\((?P<path>[\w./-]+)(?P<anchor>#[\w-]+)?\)")


def linked(text: str, folder: str = SITE) -> str:
    """
    A page with links that work on the site.

    A link to a file that the site does not show becomes its text: the site has no copy of the code. A link to
    a file that does not exist stays as it is, so that the build fails.

    :param folder: where in the repository the page is.
    """

    def link(match: re.Match[str]) -> str:
        path = normpath(f"{folder}/{match['path']}")
        target = SHOWN.get(path) or relpath(path, SITE)
        if path in SHOWN or path.startswith(f"{SITE}/") or Path(path).suffix in _IMAGES:
            return f"{match['image']}[{match['text']}]({target}{match['anchor'] or ''})"
        return match["text"] if (ROOT / path).exists() else match[0]

    return _LINK.sub(link, text)


def themed(text: str) -> str:
    """
    A page whose pictures of the light theme are those of the dark one for readers of that.
    """
    return _LIGHT.sub(r"\g<0>{.only-light}\n\g<1>-dark.png){.only-dark}", text)

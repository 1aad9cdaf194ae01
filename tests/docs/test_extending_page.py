"""
The files that docs/extending.md walks through exist, and the modules that it calls public say so themselves.
"""

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "extending.md").read_text("utf-8")
_PLANNED = {"dcounter/engines/"}

_PATHS = sorted(set(re.findall(r"`((?:dcounter|tests)/[\w/.]+)`", _PAGE)) - _PLANNED)
_PUBLIC = set(re.findall(r"`(dcounter(?:\.\w+)+)`", _PAGE.split("\n## ")[1]))


@pytest.mark.parametrize("path", _PATHS)
def test_each_file_exists(path: str) -> None:
    assert (_ROOT / path).exists()


def test_files_are_named() -> None:
    assert len(_PATHS) > 20


def test_public_modules_say_so_and_no_others() -> None:
    found = set()
    for path in sorted((_ROOT / "dcounter").rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        if re.search(r"This module is public|What this module exports is public", text):
            found.add(".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__"))
    # The docstring of its package speaks for it.
    assert found | {"dcounter.testing.http"} == _PUBLIC

"""
What docs/log.md quotes of the log is what the code says, and the other way round.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dcounter

_SOURCE = Path(dcounter.__file__).parent
_TEXT = (Path(__file__).parents[2] / "docs" / "log.md").read_text("utf-8")

_HOLE = "\0"
"""
Where a text has a value.
"""

_VALUE = re.compile(
    r"\.\.\.|\[\.\.\.\]|\['node-0', \.\.\.\]|<[^>]*>|cluster\.json|'owner'"
    r"|\b(?:ADDRESS|DIR|FILE|HOST|M|N|P|PATH|Q|R|SIG[A-Z0-9]+|X|Y)\b"
)
"""
How the page writes a value.
"""

_PART = re.compile(rf"{_HOLE}|: |; |\. |, |[()]")
"""
Where a text may be put together from several.
"""

_SAYS = {"info": 0, "warn": 0, "error": 0, "critical": 0, "failure": 0, "emit": 1}
"""
Methods of a logger, and which argument the text is.
"""


def _text(node: ast.expr) -> str | None:
    """
    A text of the source, with holes for values.
    """
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"\{\w*(?:![rs])?(?::[^}]*)?\}", _HOLE, text)
        case ast.JoinedStr(values=values):
            return "".join(_text(value) or _HOLE for value in values)
        case _:
            return None


def _trees() -> Iterator[ast.Module]:
    for path in sorted(_SOURCE.rglob("*.py")):
        if "testing" not in path.relative_to(_SOURCE).parts:
            yield ast.parse(path.read_text())


@cache
def _said() -> str:
    """
    All texts of the source, one after the other.
    """
    found = [_text(node) for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.expr)]
    return "\n".join(text for text in found if text)


def _is_said(part: str) -> bool:
    """
    Whether a part occurs in the source, in one text, or as the end of one and the beginning of another.
    """
    words = part.split(" ")
    return part in _said() or any(
        f"{' '.join(words[:cut])} {_HOLE}" in _said() and f"\n{' '.join(words[cut:])}" in _said()
        for cut in range(1, len(words))
    )


def _logged() -> list[str]:
    """
    The texts that are logged.
    """
    found = set()
    for tree in _trees():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"), attr=method), args=args):
                    text = _text(args[_SAYS[method]]) if method in _SAYS and args else None
                    if text and re.search("[a-z]", text):
                        found.add(text)
                case _:
                    pass
    return sorted(found)


def _quoted() -> list[str]:
    """
    What the first cells of its tables quote.
    """
    cells = [line.split(" | ")[0] for line in _TEXT.splitlines() if line.startswith("| ")]
    return [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("quote", _quoted())
def test_what_the_page_quotes_is_said(quote: str) -> None:
    parts = [part.strip(" .:") for part in _PART.split(_VALUE.sub(_HOLE, quote))]
    assert [part for part in parts if re.search("[a-z]{2}", part) and not _is_said(part)] == []


@pytest.mark.parametrize("text", _logged())
def test_what_is_logged_is_on_the_page(text: str) -> None:
    parts = [re.escape(part.strip()) for part in text.split(_HOLE)]
    pattern = re.compile(".*".join(part for part in parts if part))
    quotes = re.findall(r"`([^`\n]+)`", _TEXT)
    assert any(map(pattern.search, quotes)), f"the page does not have {text.replace(_HOLE, '...')!r}"


def test_the_texts_are_found() -> None:
    # Lest a change of the page or of the code leaves nothing to compare.
    assert len(_quoted()) > 50
    assert len(_logged()) > 30

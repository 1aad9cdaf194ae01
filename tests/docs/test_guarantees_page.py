"""
Every test that docs/guarantees.md names exists.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_PAGE = _TESTS.parent / "docs" / "guarantees.md"

_NAMED = re.compile(
    r"`(?:tests/)?(?P<file>[\w/]+\.py)?(?P<parts>(?:::\w+)*)(?<=\w)`|`(?P<bare>[Tt]est_?\w+)`"
)
"""
A test as the page names it: `file.py`, `file.py::TestClass::test`, or `::test` after one of the same file.
"""

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def _names(file: str) -> frozenset[str]:
    """
    The classes and functions of a file of tests: `Class`, `Class::function`, `function`.
    """
    found: set[str] = set()
    for outer in ast.parse((_TESTS / file).read_text("utf-8")).body:
        if isinstance(outer, ast.ClassDef):
            found.add(outer.name)
            found.update(
                f"{outer.name}::{inner.name}" for inner in outer.body if isinstance(inner, _FUNCTION)
            )
        elif isinstance(outer, _FUNCTION):
            found.add(outer.name)
    return frozenset(found)


def _missing(line: str) -> Iterator[str]:
    """
    What a line of the page names although it does not exist.
    """
    file = owner = ""
    for match in _NAMED.finditer(line):
        if match["bare"]:
            yield match["bare"]
            continue
        if match["file"]:
            file, owner = match["file"], ""
        if not (_TESTS / file).is_file():
            yield match[0]
            continue
        name = match["parts"].removeprefix("::")
        if not name:
            continue
        # A function that is named alone may belong to the class that was named before it.
        if not {name, f"{owner}::{name}"} & _names(file):
            yield match[0]
        elif "::" in name or name[:1].isupper():
            owner = name.partition("::")[0]


_LINES = [line for line in _PAGE.read_text("utf-8").splitlines() if _NAMED.search(line)]


@pytest.mark.parametrize("line", _LINES)
def test_what_the_page_names_exists(line: str) -> None:
    assert list(_missing(line)) == []


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("`docs/test_guarantees_page.py::test_what_the_page_names_exists`", []),
        ("`tests/docs/test_guarantees_page.py`, `::test_what_the_page_names_exists`", []),
        ("`docs/test_no_page.py`", ["`docs/test_no_page.py`"]),
        ("`docs/test_guarantees_page.py`, `::test_none`", ["`::test_none`"]),
        (
            "`docs/test_guarantees_page.py::TestNone::test_none`",
            ["`docs/test_guarantees_page.py::TestNone::test_none`"],
        ),
        ("`::test_of_no_file`", ["`::test_of_no_file`"]),
        ("`node/test_additions.py::TestIgnored`, `::test_so_does_a_copy`", ["`::test_so_does_a_copy`"]),
        (
            "`node/test_additions.py::TestRefused::test_so_does_a_copy`, `::test_a_journal_with_such_a_copy`",
            ["`::test_a_journal_with_such_a_copy`"],
        ),
        (
            "`journal/test_disk.py::No`, `node/test_additions.py::TestRefused`, `::test_so_does_a_copy`",
            ["`journal/test_disk.py::No`"],
        ),
        ("`test_without_a_file`", ["test_without_a_file"]),
    ],
)
def test_a_name_that_does_not_exist_is_found(line: str, missing: list[str]) -> None:
    assert list(_missing(line)) == missing


def test_the_page_names_many() -> None:
    # Lest a change of the page's form leaves nothing to compare.
    assert len(_LINES) > 50
    assert (
        sum(match["parts"] != "" for line in _LINES for match in _NAMED.finditer(line) if match["parts"]) > 60
    )

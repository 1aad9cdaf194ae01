"""
What commands write: tables, and names that would do harm on a terminal.
"""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.cli.output import Output, columns, many, shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("acme/berlin", "acme/berlin"),
        ("日本 ü 🎈", "日本 ü 🎈"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\t", "a\\nb\\t"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b31m", "\\x9b31m"),
        ("a\\b", "a\\\\b"),
    ],
)
def test_names_do_no_harm(text: str, safe: str) -> None:
    assert shown(text) == safe


@given(st.text())
def test_names_are_one_printable_line_and_tell_all(text: str) -> None:
    assert shown(text).isprintable()
    if text.isascii():
        assert shown(text).encode().decode("unicode_escape") == text


def test_columns_are_aligned_however_wide_their_letters_are() -> None:
    text = columns(["n", "name", "x"], [["1", "日本", "a"], ["10", "acme", ""]], right=[0])
    assert click.unstyle(text).splitlines() == [" n  name  x", " 1  日本  a", "10  acme"]


def test_numbers_in_words() -> None:
    assert [many(number, "item") for number in (0, 1, 2_000)] == ["0 items", "1 item", "2,000 items"]


def test_people_and_programs_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    for output in (Output(json=False), Output(json=True)):
        output.result({"a": 1}, "one")
        output.result({"a": 2}, None)
        output.remark("by the way")
        output.warn("look")
    said = capsys.readouterr()
    assert said.out == 'one\n{"a":1}\n{"a":2}\n'
    assert click.unstyle(said.err) == "by the way\nwarning: look\nwarning: look\n"

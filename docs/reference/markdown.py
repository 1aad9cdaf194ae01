"""
Pieces of Markdown.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

_WIDTH: Final = 96
"""
Characters of a line of JSON, before it is broken.
"""


def code(text: str) -> str:
    """
    A piece of code within a sentence.
    """
    return f"`{text}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    A table, or nothing if it has no rows.
    """
    lines = [_row(row) for row in rows]
    return "\n".join([_row(head), "|---" * len(head) + "|", *lines, "", ""]) if lines else ""


def block(language: str, text: str) -> str:
    """
    A piece of code that stands by itself.
    """
    return f"```{language}\n{text}\n```\n\n"


def pretty(value: Any, indent: str = "") -> str:
    """
    JSON for people. What is short is on one line.
    """
    if not isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    short = len(indent) + len(json.dumps(value)) <= _WIDTH
    inner = "" if short else f"{indent}  "
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key, ensure_ascii=False)}: {pretty(each, inner)}" for key, each in value.items()
        ]
    else:
        parts = [pretty(each, inner) for each in value]
    if short or not parts:
        return f"{opening}{', '.join(parts)}{closing}"
    lines = f",\n{inner}".join(parts)
    return f"{opening}\n{inner}{lines}\n{indent}{closing}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(each) for each in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

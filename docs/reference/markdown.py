"""
Pieces of Markdown.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dcounter.http.docs_examples import laid_out

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


def pretty(value: Any) -> str:
    """
    JSON for people.
    """
    return laid_out(value, _WIDTH, _json, _json)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(each) for each in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

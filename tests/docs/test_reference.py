"""
The parts of the documentation that are made from the code have all of it.
"""

from typing import Any, get_args

import pytest

from dcounter.errors import Refusal
from dcounter.http.examples import examples_of
from dcounter.http.openapi import refusals as refusals_of
from dcounter.http.openapi import ways
from dcounter.http.problems import UnknownMethod, UnknownPath, WrongMethod
from dcounter.http.route import Route
from dcounter.http.table import ROUTES
from dcounter.protocol import messages
from docs.reference.markdown import pretty, table
from docs.reference.messages import messages_of_phases, shown
from docs.reference.routes import refusals, routes

_ROUTES = routes()
_REFUSALS = refusals()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_has_a_section_with_all_that_may_come(route: Route) -> None:
    section = _ROUTES.split(f"\n### {route.method} {route.path}\n")[1].split("\n### ")[0]
    assert all(f"[{kind.code}](#{kind.code})" in section for kind in refusals_of(route))
    assert all(f"| `{each.name}` | " in section for each in (*route.segments, *route.query))
    assert ("**Deprecated**" in section) is bool(route.successor)
    assert section.count("\n```sh\n") == sum(len(examples_of(way)) for way in ways(route))


def test_each_refusal_has_a_section() -> None:
    wanted: set[type[Refusal]] = {UnknownMethod, UnknownPath, WrongMethod}
    wanted.update(*map(refusals_of, ROUTES))
    assert _REFUSALS.count("### ") == len(wanted)
    for kind in wanted:
        assert f"### {kind.code}\n" in _REFUSALS


def test_every_message_is_shown() -> None:
    wanted: set[type[Any]] = {*get_args(messages.Message), *get_args(messages.JournalLine)}
    assert wanted <= set(shown())
    page = messages_of_phases()
    assert all(f"[{kind.__name__}](protocol.md#{kind.__name__.lower()})" in page for kind in wanted)


def test_a_cell_of_a_table_stays_one_cell() -> None:
    assert table(["a", "b"], [("x|y", "1\n2")]) == "| a | b |\n|---|---|\n| x\\|y | 1 2 |\n\n"
    assert table(["a"], []) == ""


def test_short_json_is_on_one_line_and_long_json_is_not() -> None:
    assert pretty({"a": [1, "ü"]}) == '{"a": [1, "ü"]}'
    assert pretty({"a": ["x" * 50, "y" * 50]}) == (
        '{\n  "a": [\n    "' + "x" * 50 + '",\n    "' + "y" * 50 + '"\n  ]\n}'
    )
    assert pretty([]) == "[]"

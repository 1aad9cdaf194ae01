"""
docs/http.md has every route and every refusal of the code, and no other.
"""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from dcounter.errors import Refusal
from dcounter.http.limits import HttpLimits
from dcounter.http.openapi import refusals
from dcounter.http.problems import UnknownMethod, UnknownPath, WrongMethod
from dcounter.http.route import Route
from dcounter.http.table import ROUTES
from tests.support.kinds import kinds

_PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
_ROUTE = re.compile(r"^\| `(?P<route>[A-Z]+ /[^`]*)` \| .+ \|$", re.MULTILINE)
_ERROR = re.compile(
    r"^\| (?P<status>[45]\d\d) \| `(?P<code>\w+)` \| (?:`(?P<outcome>\w+)`)? ?\| (?P<retryable>yes)? ?"
    r"\| .+ \|$",
    re.MULTILINE,
)
_LIMIT = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<number>[0-9,.]+)(?P<unit>[ \w]*) \| (?:.* )?\| .+ \|$", re.MULTILINE
)

ERRORS = {row["code"]: row for row in _ERROR.finditer(_PAGE)}


def test_the_table_of_routes_is_that_of_the_code() -> None:
    current = [f"{route.method} {route.path}" for route in ROUTES if not route.successor]
    assert [row["route"] for row in _ROUTE.finditer(_PAGE)] == current


def test_deprecated_paths_are_mentioned() -> None:
    assert all(f"`{route.path}`" in _PAGE for route in ROUTES if route.successor)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_parameter_of_a_query_is_described(route: Route) -> None:
    for parameter in {each for way in (route, *route.by_type.values()) for each in way.query}:
        assert f"\n| `{parameter.name}` |" in _PAGE
        assert all(f"`{value}`" in _PAGE for value in parameter.values)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.code) for kind in kinds()])
def test_each_refusal_is_in_the_table_of_errors(kind: type[Refusal]) -> None:
    row = ERRORS[kind.code]
    assert int(row["status"]) == kind.status
    assert kind.outcome in {None, row["outcome"]}
    assert kind.retryable is bool(row["retryable"])


def test_the_table_of_errors_has_nothing_else() -> None:
    met: set[type[Refusal]] = {UnknownMethod, UnknownPath, WrongMethod}
    met.update(*map(refusals, ROUTES))
    assert ERRORS.keys() == {kind.code for kind in met}
    assert len(_ERROR.findall(_PAGE)) == len(ERRORS)


def test_the_table_of_limits_is_that_of_the_code() -> None:
    units = {"": 1, " s": 1, " ms": 0.001, " KiB": 2**10, " MiB": 2**20, " GiB": 2**30}
    rows = {
        row["name"]: float(row["number"].replace(",", "")) * units[row["unit"]]
        for row in _LIMIT.finditer(_PAGE)
    }
    defaults = dataclasses.asdict(HttpLimits())
    assert rows == defaults
    assert list(rows) == list(defaults)
    assert re.findall(r":ivar (\w+):", inspect.getdoc(HttpLimits) or "") == list(defaults)

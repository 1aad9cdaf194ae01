"""
The page `/docs` shows all routes and refusals, needs nothing from elsewhere, and runs no script.
"""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from dcounter.http.docs_examples import curl, in_colours
from dcounter.http.examples import Example
from dcounter.http.openapi import name_of
from dcounter.http.refusal_examples import REFUSALS
from dcounter.http.route import Route
from dcounter.http.server import make_api
from dcounter.http.table import ROUTES
from dcounter.testing.http import MemoryStore
from tests.support.servers import CalledServer

_EMPTY = {"meta", "link"}


class Page(HTMLParser):
    """
    A page, as a browser reads it.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.style = self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.attributes.update(given)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.links += [str(given[name]) for name in ("href", "src") if given.get(name)]
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(make_api(MemoryStore()).page.body.decode())


def test_each_route_is_there_and_each_refusal(page: Page) -> None:
    assert set(page.ids) >= {name_of(route) for route in ROUTES} | {each.code for each in REFUSALS}
    assert len(set(page.ids)) == len(page.ids)
    for route in ROUTES:
        assert route.summary.replace("`", "") in page.text
        for each in (*route.segments, *route.query):
            assert each.description.replace("`", "") in page.text
    for refusal in REFUSALS:
        assert str(refusal) in page.text.replace('\\"', '"')


def test_each_link_leads_somewhere(page: Page) -> None:
    inside = {each.removeprefix("#") for each in page.links if each.startswith("#")}
    assert inside <= set(page.ids)
    outside = [each for each in page.links if not each.startswith(("#", "data:"))]
    # Nothing comes from elsewhere.
    assert set(outside) == {"/openapi.json"}


def test_it_has_no_script(page: Page) -> None:
    assert page.tags.isdisjoint({"script", "iframe", "object", "form", "img"})
    assert not [each for each in page.attributes if each.startswith("on") or each == "style"]


def test_it_is_for_both_themes_and_for_phones(page: Page) -> None:
    assert "prefers-color-scheme: dark" in page.style
    assert "viewport" in make_api(MemoryStore()).page.body.decode()
    for theme in page.style.split("prefers-color-scheme: dark")[:2]:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        paper = colours.pop("paper")
        for name in ("ink", "soft", "link", "get", "post", "delete", "text", "number"):
            # Text of this size: WCAG 2, level AA.
            assert _contrast(colours[name], paper) >= 4.5, name
            assert _contrast(colours[name], colours["panel"]) >= 4.5, name


def _contrast(one: str, other: str) -> float:
    light, dark = sorted(map(_luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_its_policy_permits_its_style_and_nothing_else(page: Page) -> None:
    world = CalledServer()
    [reply] = world.connect().send(b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n")
    world.close()
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(each.strip().split(" ", 1) for each in reply.headers["content-security-policy"].split(";"))
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"


def test_it_tells_the_defaults_of_the_daemon() -> None:
    assert "consistency is available" in Page(_made(consistency="available")).text


def test_it_has_no_route_that_the_store_does_not_serve() -> None:
    store = MemoryStore()
    store.capabilities = frozenset()
    served = {name_of(route) for route in ROUTES if route.needs is None}
    others = {name_of(route) for route in ROUTES} - served
    found = Page(make_api(store).page.body.decode()).ids
    assert served <= set(found)
    assert others.isdisjoint(found)


def _made(**options: Any) -> str:
    return make_api(MemoryStore(), **options).page.body.decode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, None, "<b>"]}, '{"a": [1, null, "<b>"]}'),
        ({}, "{}"),
        ([{"a" * 30: "b" * 30}], '[\n  {\n    "' + "a" * 30 + '": "' + "b" * 30 + '"\n  }\n]'),
    ],
)
def test_json_in_colours_is_that_json(value: Any, shown: str) -> None:
    found = Page(f"<pre>{in_colours(value)}</pre>").text
    assert found == shown
    assert msgspec.json.decode(found) == value


def _route(path: str) -> Route:
    return next(route for route in ROUTES if route.path == path)


@pytest.mark.parametrize(
    ("route", "example", "command"),
    [
        (_route("/healthz"), Example("/healthz", {}), ["curl http://127.0.0.1:8085/healthz"]),
        (
            _route("/counts"),
            Example("/counts?a=1", {}, "{}"),
            ["curl 'http://127.0.0.1:8085/counts?a=1' \\", "     -d '{}'"],
        ),
        (
            _route("/cluster/restart"),
            Example("/cluster/restart", {}, '{"node":1}'),
            [
                "curl http://127.0.0.1:8085/cluster/restart \\",
                "     -d '{\"node\":1}' \\",
                '     -H "Authorization: Bearer $TOKEN"',
            ],
        ),
        (
            _route("/items"),
            Example("/items", {}, '[{"ID":1,"tenant":"a"},{"ID":2,"tenant":"bbbbbbbbb"}]'),
            [
                "curl http://127.0.0.1:8085/items \\",
                '     -d \'[{"ID":1,"tenant":"a"},',
                '         {"ID":2,"tenant":"bbbbbbbbb"}]\'',
            ],
        ),
        (
            next(iter(_route("/items").by_type.values())),
            Example("/items", {}, "{}\n{}\n"),
            [
                "printf '%s\\n' '{}' \\",
                "              '{}' |",
                "curl -X POST -T - http://127.0.0.1:8085/items \\",
                "     -H 'Content-Type: application/x-ndjson'",
            ],
        ),
    ],
)
def test_a_request_is_shown_as_a_command(route: Route, example: Example, command: list[str]) -> None:
    assert curl(route, example).split("\n") == command

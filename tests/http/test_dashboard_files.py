"""
The files of the dashboard: served from memory, under a strict policy, once to a browser that keeps them.
"""

import re
from collections.abc import Iterator

import pytest

from dcounter.http.dashboard_files import dashboard_files
from dcounter.http.openapi import refusals
from dcounter.http.table import ROUTES
from tests.support.callers import Reply
from tests.support.servers import CalledServer

NAMES = sorted(dashboard_files())
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_NAMED = re.compile(r'(?:href|src)="dashboard/([^"]+)"|(?:from|import) "\./([^"]+)"')


@pytest.fixture
def world() -> Iterator[CalledServer]:
    world = CalledServer()
    yield world
    world.close()


def get(world: CalledServer, target: str, *headers: str) -> Reply:
    [reply] = world.connect().send(
        "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()
    )
    return reply


def test_its_modules_name_refusals_and_routes_that_there_are() -> None:
    advice, rates = (dashboard_files()[name].body.decode() for name in ("advice.js", "rates.js"))
    [explained] = re.findall(r"^const REFUSED = \{\n(.*?)^\};", advice, re.MULTILINE | re.DOTALL)
    [ours] = re.findall(r"const ours = \[(.*?)\]", advice)
    codes = {*re.findall(r"^  (\w+):", explained, re.MULTILINE), *re.findall(r'"(\w+)"', ours)}
    assert len(codes) > 10
    assert codes <= {kind.code for route in ROUTES for kind in refusals(route)}
    counted = re.findall(r'^  "([A-Z]+ /[^"]+)",$', rates, re.MULTILINE)
    assert len(counted) > 8
    assert {*counted} <= {f"{route.method} {route.path}" for route in ROUTES}


def test_the_page_names_files_that_are_there_and_each_is_named() -> None:
    texts = {
        name: answer.body.decode()
        for name, answer in dashboard_files().items()
        if name.endswith(("html", "js"))
    }
    named = {one or other for text in texts.values() for one, other in _NAMED.findall(text)}
    licences = {name for name in NAMES if name.endswith(".txt")}
    assert named | licences | {"index.html"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_file_has_its_type_and_the_policy(world: CalledServer, name: str) -> None:
    reply = get(world, f"/dashboard/{name}")
    assert (reply.status, reply.headers["content-type"]) == (200, TYPES[name.rpartition(".")[2]])
    assert reply.text == dashboard_files()[name].body != b""
    policy = dict(each.split(" ", 1) for each in reply.headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == policy["frame-ancestors"] == "'none'"
    # Nothing inside the page, and nothing from elsewhere.
    assert set(policy.values()) == {"'self'", "'none'", "'script'"}
    assert reply.headers["cache-control"] == "no-cache"


def test_the_page_is_the_root(world: CalledServer) -> None:
    page = get(world, "/")
    assert page.text == get(world, "/dashboard/index.html").text
    # So the page works behind a proxy that serves it in a folder.
    assert b'="/' not in page.text


@pytest.mark.parametrize("asked", ["{}", "W/{}", '"other", {}', "*"])
def test_what_a_browser_has_is_not_sent_again(world: CalledServer, asked: str) -> None:
    first = get(world, "/")
    connection = world.connect()
    for method in ("GET", "HEAD"):
        known = asked.format(first.headers["etag"])
        head = f"{method} / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {known}\r\n\r\n"
        connection.protocol.dataReceived(head.encode())
        sent = connection.wire.value().decode()
        connection.wire.clear()
        assert sent.startswith("HTTP/1.1 304 Not Modified\r\n")
        assert f"ETag: {first.headers['etag']}\r\n" in sent
        assert f"Content-Length: {len(first.text)}\r\n" in sent
        assert sent.count("Cache-Control: ") == 1
        # No body.
        assert sent.partition("\r\n\r\n")[2] == ""


@pytest.mark.parametrize("asked", ['"other"', "nonsense", ""])
def test_what_it_has_not_is_sent(world: CalledServer, asked: str) -> None:
    assert get(world, "/", f"If-None-Match: {asked}").status == 200


@pytest.mark.parametrize(
    "name", ["nothing.js", "__init__.py", "..%2Ftable.py", "index.html%00", "%2Fetc%2Fpasswd"]
)
def test_there_is_nothing_else(world: CalledServer, name: str) -> None:
    assert get(world, f"/dashboard/{name}").problem == (404, "unknown_path")

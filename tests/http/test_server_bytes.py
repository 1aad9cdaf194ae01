"""
The bytes of answers, as an independent parser reads them, however the bytes of the requests came.
"""

# Twisted's transports in memory have no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.servers import GET, ONE, CalledServer, chunked, post


def get(path: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    line = b"%s %s %s" % (method, path, version)
    return b"\r\n".join([line, b"Host: localhost", *headers, b"", b""])


KEEP = b"Connection: keep-alive"
# Each with the status of its answer.
GOING_ON = {
    get(b"/items/a/count"): 200,
    get(b"/items/a%2Fb/count?consistency=eventual"): 200,
    get(b"/items/a/count?what"): 400,
    get(b"/openapi.json"): 200,
    get(b"/healthz", method=b"HEAD"): 200,
    get(b"/nothing", method=b"HEAD"): 404,
    get(b"/nothing"): 404,
    get(b"//"): 404,
    get(b"/items", method=b"DELETE"): 405,
    get(b"/healthz", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: A"): 200,
    get(b"http://localhost/healthz"): 200,
    # The default port of the scheme is no other server.
    get(b"http://localhost:80/healthz"): 200,
    get(b"HTTPS://LOCALHOST:443/healthz"): 200,
    get(b"http://localhost:/nothing"): 404,
    get(b"/healthz#fragment"): 400,
    get(b"*", method=b"OPTIONS"): 400,
    get(b"/healthz", method=b"OPTIONS"): 405,
    get(b"/healthz", method=b"TRACE"): 405,
    get(b"/healthz", method=b"CONNECT"): 405,
    get(b"localhost:80", method=b"CONNECT"): 400,
    get(b"/healthz", b"Upgrade: websocket", b"Connection: Upgrade"): 200,
    get(b"/items/a/count", KEEP, version=b"HTTP/1.0"): 200,
    get(b"/nothing", KEEP, version=b"HTTP/1.0"): 404,
    get(b"/healthz", b"Content-Length: 3") + b"abc": 200,
    b"\r\n" + GET: 200,
    post(ONE): 200,
    post(b""): 400,
    post(b"{"): 400,
    post(ONE, b"Expect: something"): 200,
    chunked(ONE[:3], ONE[3:], b""): 200,
    chunked(ONE)[:-2] + b"\r\n0;last\r\nX: y\r\n\r\n": 200,
    post(GET): 400,
}
LAST = {
    get(b"/healthz", b"Connection: close"): 200,
    get(b"/nothing", b"Connection: x, close"): 404,
    get(b"/healthz", version=b"HTTP/1.0"): 200,
    get(b"/nothing", version=b"HTTP/1.0"): 404,
    get(b"/x", method=b"BREW"): 501,
    get(b"/\x80"): 400,
    get(b"http://localhost:81/healthz"): 400,
    get(b"https://localhost:80/healthz"): 400,
    get(b"/healthz", b"Host: localhost"): 400,
    get(b"/healthz", b"X : y"): 400,
    get(b"/healthz", b"Origin: https://evil.example"): 403,
    get(b"/healthz", b"Origin: https://evil.example", method=b"HEAD"): 403,
    post(ONE, b"Content-Encoding: gzip"): 415,
    post(b" " * 1_001): 413,
    chunked(b" " * 600, b" " * 600, b""): 413,
    chunked(ONE) + b"zz\r\n": 400,
    b"nonsense\r\n\r\n": 400,
}
ALL = {**GOING_ON, **LAST}


def answers(pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    """
    All that is answered to these bytes, and whether the connection ends.
    """
    world = CalledServer(max_body_bytes=1_000)
    connection = world.connect()
    for piece in pieces:
        connection.protocol.dataReceived(piece)
        while world.store.waiting:
            world.store.release()
    sent: bytes = connection.wire.value()
    ended = connection.refused or connection.wire.disconnecting
    world.close()
    return sent, ended


def parsed(requests: Iterable[bytes], sent: bytes, *, ended: bool) -> list[tuple[int, bytes]]:
    """
    Status and body of each answer, as h11 reads them as the client of these requests.
    """
    found = []
    for request in requests:
        client = h11.Connection(h11.CLIENT)
        method = request.split(maxsplit=1)[0].decode()
        client.send(h11.Request(method=method, target="/", headers=[("Host", "localhost")]))
        client.send(h11.EndOfMessage())
        client.receive_data(sent)
        if ended:
            client.receive_data(b"")
        response = client.next_event()
        assert isinstance(response, h11.Response)
        kinds = [value for name, value in response.headers if name == b"content-type"]
        assert kinds == [b"application/json" if response.status_code == 200 else b"application/problem+json"]
        body = b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            body += event.data
        found.append((response.status_code, body))
        # The next answer is for a new parser: h11 knows of no HTTP/1.0 that goes on.
        sent, _ = client.trailing_data
        says = [value for name, value in response.headers if name == b"connection"]
        goes_on = [b"keep-alive"] if response.http_version == b"1.0" else []
        assert says == ([b"close"] if ended and not sent else goes_on)
    assert sent == b""
    return found


@pytest.mark.parametrize("request_", ALL)
def test_each_answer_is_what_the_parser_expects(request_: bytes) -> None:
    sent, ended = answers([request_])
    assert [status for status, _ in parsed([request_], sent, ended=ended)] == [ALL[request_]]
    assert ended is (request_ in LAST)


@pytest.mark.parametrize("request_", ALL)
def test_each_answer_is_the_same_byte_by_byte(request_: bytes) -> None:
    assert answers(request_[i : i + 1] for i in range(len(request_))) == answers([request_])


@given(st.lists(st.sampled_from([*GOING_ON]), max_size=6), st.sampled_from([*ALL]), st.data())
def test_answers_are_the_same_however_requests_come(
    requests: list[bytes], last: bytes, data: st.DataObject
) -> None:
    requests.append(last)
    whole = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    sent, ended = answers(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True))
    statuses = [status for status, _ in parsed(requests, sent, ended=ended)]
    assert statuses == [ALL[each] for each in requests]
    assert (sent, ended) == answers([whole])


def test_nothing_is_answered_behind_the_last_one() -> None:
    for last in LAST:
        sent, ended = answers([GET + last + GET])
        assert len(parsed([GET, last], sent, ended=ended)) == 2

"""
From bytes to requests: what is read, what is refused, and that it does not matter how the bytes come.
"""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dcounter.errors import Refusal
from dcounter.http.limits import HttpLimits
from dcounter.http.problems import HttpRefusal
from dcounter.http.reader import End, Head, RequestReader

LIMITS = HttpLimits()


def read(pieces: Iterable[bytes], limits: HttpLimits = LIMITS) -> tuple[list[tuple[Head, bytes]], str]:
    """
    The requests in these bytes with their bodies, and how it ends: waiting, or the code of a refusal.
    """
    reader = RequestReader(limits)
    found: list[tuple[Head, bytes]] = []
    open_: Head | None = None
    body = b""
    try:
        for piece in pieces:
            reader.receive(piece)
            while (event := reader.next_event()) is not None:
                match event:
                    case Head():
                        assert open_ is None
                        if event.length == 0:
                            found.append((event, b""))
                        elif event.body is not None:
                            assert len(event.body) == event.length
                            found.append((replace(event, body=None), event.body))
                        else:
                            open_, body = event, b""
                    case bytes():
                        assert open_ is not None
                        assert event
                        body += event
                    case End.END:
                        assert open_ is not None
                        found.append((open_, body))
                        open_ = None
    except HttpRefusal as refusal:
        return found, refusal.code
    return found, "waits" if open_ or reader.in_head else ""


def one(data: bytes) -> tuple[Head, bytes]:
    [found], end = read([data])
    assert end == ""
    return found


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def get(*headers: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *headers, b"", b""])


def post(*headers: bytes, body: bytes = b"", line: bytes = b"POST / HTTP/1.1") -> bytes:
    return get(*headers, line=line) + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


REFUSED = {
    # Lines and their ends.
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF as the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "LF only": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare CR in a value": get(b"X: a\rY: b"),
    "bare CR as the end of a line": b"GET / HTTP/1.1\rHost: a\r\r",
    "CR CR LF": b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    "a continued value (obs-fold)": get(b"X: a", b" b"),
    "a value continued by a tab": get(b"X: a", b"\tb"),
    "a first header that begins with a blank": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "two empty lines before": b"\r\n\r\n" + GET,
    "LF before": b"\n" + GET,
    "CR before": b"\r" + GET,
    "CR CR LF before": b"\r\r\n" + GET,
    "CR LF LF before": b"\r\n\n" + GET,
    "a blank before": b" " + GET,
    "an empty line and a blank before": b"\r\n " + GET,
    "a tab before": b"\t" + GET,
    "NUL before": b"\0" + GET,
    "a byte order mark before": b"\xef\xbb\xbf" + GET,
    "nothing but empty lines": b"\r\n" * 20,
    "CR CR LF as the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
    "CR CR as the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\r\r",
    "a blank in the empty line": get(b" "),
    "a tab in the empty line": get(b"\t"),
    "CR before a header": get(b"\rX: a"),
    "LF before a header": get(b"\nX: a"),
    "a header behind a bare CR": post(b"X: a\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a header behind a bare LF": post(b"X: a\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    # Header names and values.
    "a blank before the colon": get(b"X : a"),
    "a tab before the colon": get(b"X\t: a"),
    "a blank before the colon of Content-Length": post(b"Content-Length : 1", body=b"a"),
    "no colon": get(b"no colon"),
    "no name": get(b": a"),
    "a byte above 0x7f in a name": get(b"X\x80: a"),
    "NUL in a name": get(b"X\0: a"),
    "NUL in a value": get(b"X: a\0b"),
    "a control character in a value": get(b"X: \x01"),
    "DEL in a value": get(b"X: \x7f"),
    "brackets in a name": get(b"X(): a"),
    "a blank in a name": get(b"X Y: a"),
    "a tab in a name": get(b"X\tY: a"),
    "LF in a name": get(b"X\n: a"),
    "a colon before a name": get(b":X: a"),
    "DEL in a name": get(b"X\x7f: a"),
    "UTF-8 in a name": get("Ä: a".encode()),
    "a slash in a name": get(b"X/Y: a"),
    "a comma in a name": get(b"X,Y: a"),
    "an equals sign in a name": get(b"X=Y: a"),
    "a quote in a name": get(b'X": a'),
    "a vertical tab in a value": get(b"X: a\x0bb"),
    "a form feed in a value": get(b"X: a\x0cb"),
    "ESC in a value": get(b"X: \x1b[0m"),
    # The request line.
    "no method": b" / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "HTTP/0.9": get(line=b"GET / HTTP/0.9"),
    "HTTP/1.2": get(line=b"GET / HTTP/1.2"),
    "HTTP/2.0": get(line=b"GET / HTTP/2.0"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/11.1": get(line=b"GET / HTTP/11.1"),
    "small letters": get(line=b"GET / http/1.1"),
    "another protocol": get(line=b"GET / RTSP/1.0"),
    "RTSP": get(line=b"DESCRIBE / RTSP/1.0"),
    "ICE": get(line=b"SOURCE / ICE/1.0"),
    "a major version only": get(line=b"GET / HTTP/1"),
    "no minor version": get(line=b"GET / HTTP/1."),
    "HTTP/1.10": get(line=b"GET / HTTP/1.10"),
    "HTTP/01.1": get(line=b"GET / HTTP/01.1"),
    "HTTP/1,1": get(line=b"GET / HTTP/1,1"),
    "HTTP/3.0": get(line=b"GET / HTTP/3.0"),
    "PRI with HTTP/1.1": get(line=b"PRI * HTTP/1.1"),
    "a blank in the version": get(line=b"GET / HTTP/ 1.1"),
    "more behind the version": get(line=b"GET / HTTP/1.1x"),
    "two versions": get(line=b"GET / HTTP/1.1 HTTP/1.1"),
    "a tab at the end": get(line=b"GET / HTTP/1.1\t"),
    "a tab behind the method": get(line=b"GET\t/ HTTP/1.1"),
    "a vertical tab behind the method": get(line=b"GET\x0b/ HTTP/1.1"),
    "a form feed behind the method": get(line=b"GET\x0c/ HTTP/1.1"),
    "CR behind the method": get(line=b"GET\r/ HTTP/1.1"),
    "NUL behind the method": get(line=b"GET\0/ HTTP/1.1"),
    "a method of mixed case": get(line=b"Get / HTTP/1.1"),
    "an endless method": b"A" * 100 + b" / HTTP/1.1\r\n",
    "two spaces before the target": get(line=b"GET  / HTTP/1.1"),
    "two spaces behind it": get(line=b"GET /  HTTP/1.1"),
    "a blank at the end": get(line=b"GET / HTTP/1.1 "),
    "a space in the target": get(line=b"GET /a b HTTP/1.1"),
    # Whom it is for.
    "a target of another server": get(line=b"GET http://b/ HTTP/1.1"),
    "a target of another port": get(line=b"GET http://a:81/ HTTP/1.1"),
    "a target of the port of another scheme": get(line=b"GET https://a:80/ HTTP/1.1"),
    "a target of another server, encrypted": get(line=b"GET HTTPS://b/ HTTP/1.1"),
    "a target of no server": get(line=b"GET http:/// HTTP/1.1"),
    "a target with a user": get(line=b"GET http://u@a/ HTTP/1.1"),
    "a target that ends with its server": get(line=b"GET http://b HTTP/1.1"),
    "a target whose query names its server": get(line=b"GET http://b?@a/ HTTP/1.1"),
    "a target of another server in HTTP/1.0": get(line=b"GET http://b/ HTTP/1.0"),
    # How long the body is.
    "two lengths": post(b"Content-Length: 1", b"Content-Length: 2", body=b"a"),
    "the same length twice": post(b"Content-Length: 1", b"Content-Length: 1", body=b"a"),
    "two lengths in a list": post(b"Content-Length: 1, 1", body=b"a"),
    "a negative length": post(b"Content-Length: -1", body=b"a"),
    "a length with a sign": post(b"Content-Length: +1", body=b"a"),
    "a length with a fraction": post(b"Content-Length: 1.0", body=b"a"),
    "a length in hexadecimal": post(b"Content-Length: 0x1", body=b"a"),
    "a length in octal": post(b"Content-Length: 0o1", body=b"a"),
    "a length with an exponent": post(b"Content-Length: 1e0", body=b"a"),
    "a length with an underscore": post(b"Content-Length: 1_0", body=b"0123456789"),
    "a length in quotes": post(b'Content-Length: "1"', body=b"a"),
    "a length with a parameter": post(b"Content-Length: 1;a", body=b"a"),
    "a length in other digits": post(b"Content-Length: \xd9\xa1", body=b"a"),
    "a length behind a vertical tab": post(b"Content-Length: \x0b1", body=b"a"),
    "a length before a form feed": post(b"Content-Length: 1\x0c", body=b"a"),
    "a length of minus nothing": post(b"Content-Length: -0"),
    "a continued length": post(b"Content-Length:", b" 1", body=b"a"),
    "a length with a comma behind it": post(b"Content-Length: 1,", body=b"a"),
    "a length with a comma before it": post(b"Content-Length: ,1", body=b"a"),
    "a length and an empty one": post(b"Content-Length: 1", b"Content-Length:", body=b"a"),
    "two numbers": post(b"Content-Length: 1 1", body=b"a"),
    "no number": post(b"Content-Length:", body=b"a"),
    "a length beyond 63 bits": post(b"Content-Length: 9223372036854775809", body=b"a"),
    "a length beyond 64 bits": post(b"Content-Length: 18446744073709551617", body=b"a"),
    "a length of thousands of digits": post(b"Content-Length: " + b"9" * 5_000, body=b"a"),
    "length and chunks": post(b"Content-Length: 1", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunks and no length": post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"),
    "chunks and an empty length": post(b"Transfer-Encoding: chunked", b"Content-Length:", body=b"0\r\n\r\n"),
    "length and another coding": post(b"Content-Length: 1", b"Transfer-Encoding: x", body=b"a"),
    "chunks and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 1", body=b"0\r\n\r\n"),
    "another coding": post(b"Transfer-Encoding: gzip"),
    "another coding before chunks": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunks not last": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "chunks twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunks twice, in two headers": post(*[b"Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n"),
    "chunks and then identity": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "identity and then chunks": post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"),
    "chunks and identity, in two headers": post(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"
    ),
    "identity and chunks, in two headers": post(
        b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "nothing and chunks, in two headers": post(
        b"Transfer-Encoding:", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunks with a comma behind them": post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n"),
    "chunks with a comma before them": post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"),
    "less than chunked": post(b"Transfer-Encoding: chunk", body=b"0\r\n\r\n"),
    "chunked in apostrophes": post(b"Transfer-Encoding: 'chunked'", body=b"0\r\n\r\n"),
    "chunked in brackets": post(b"Transfer-Encoding: [chunked]", body=b"0\r\n\r\n"),
    "chunked before a vertical tab": post(b"Transfer-Encoding: chunked\x0b", body=b"0\r\n\r\n"),
    "chunked before a form feed": post(b"Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n"),
    "chunked before a no-break space": post(b"Transfer-Encoding: chunked\xa0", body=b"0\r\n\r\n"),
    "chunked before NUL": post(b"Transfer-Encoding: chunked\0", body=b"0\r\n\r\n"),
    "chunked before CR": post(b"Transfer-Encoding: chunked\r", body=b"0\r\n\r\n"),
    "chunked behind LF and a blank": post(b"Transfer-Encoding:\n chunked", body=b"0\r\n\r\n"),
    "chunked in a continued value": post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"),
    "identity in a continued value": post(b"Transfer-Encoding: chunked", b" , identity", body=b"0\r\n\r\n"),
    "a blank before the colon of Transfer-Encoding": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a tab before it": post(b"Transfer-Encoding\t:\tchunked", body=b"0\r\n\r\n"),
    "NUL before it": post(b"Transfer-Encoding\0: chunked", body=b"0\r\n\r\n"),
    "a blank in Transfer-Encoding": post(b"Transfer Encoding: chunked", body=b"0\r\n\r\n"),
    "a blank before Transfer-Encoding": post(b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "almost chunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n"),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "no coding": post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    "identity": post(b"Transfer-Encoding: identity"),
    "chunks in HTTP/1.0": post(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0", body=b"0\r\n\r\n"),
    "chunks in HTTP/1.0 that stays": post(
        b"Transfer-Encoding: chunked",
        b"Connection: keep-alive",
        line=b"POST / HTTP/1.0",
        body=b"0\r\n\r\n",
    ),
    "an upgrade hides two lengths": post(
        b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 1", b"Content-Length: 2", body=b"a"
    ),
    "an upgrade hides length and chunks": post(
        b"Connection: upgrade",
        b"Upgrade: x",
        b"Content-Length: 1",
        b"Transfer-Encoding: chunked",
        body=b"0\r\n\r\n",
    ),
    "an upgrade hides another coding": post(
        b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: gzip", body=b"0\r\n\r\n"
    ),
    # Chunks.
    "a chunk without a length": chunked(b"\r\nx\r\n"),
    "a length that is no number": chunked(b"zz\r\n"),
    "a chunk of negative length": chunked(b"-1\r\nx\r\n"),
    "a chunk of positive length": chunked(b"+1\r\nx\r\n"),
    "a last chunk of negative length": chunked(b"-0\r\n\r\n"),
    "a length with an underscore in it": chunked(b"1_0\r\n0123456789abcdef\r\n"),
    "a length with a point": chunked(b"1.0\r\nx\r\n"),
    "a length with an h": chunked(b"1h\r\nx\r\n"),
    "a chunk's length in quotes": chunked(b'"1"\r\nx\r\n'),
    "two lengths of a chunk": chunked(b"1,1\r\nx\r\n"),
    "0X": chunked(b"0X1\r\nx\r\n"),
    "0x": chunked(b"0x1\r\nx\r\n"),
    "a blank before it": chunked(b" 1\r\nx\r\n"),
    "a blank behind it": chunked(b"1 \r\nx\r\n"),
    "a blank before an extension": chunked(b"1 ;a\r\nx\r\n"),
    "a tab behind it": chunked(b"1\t\r\nx\r\n"),
    "NUL behind it": chunked(b"1\0\r\nx\r\n"),
    "an empty line before it": chunked(b"\r\n1\r\nx\r\n"),
    "LF before it": chunked(b"\n1\r\nx\r\n"),
    "17 digits that mean much": chunked(b"fffffffffffffffff\r\nx\r\n"),
    "17 digits": chunked(b"00000000000000001\r\nx\r\n"),
    "an overflow to 1": chunked(b"10000000000000001\r\nx\r\n"),
    "LF behind a length": chunked(b"1\nx\r\n"),
    "CR behind a length": chunked(b"1\rx\r\n"),
    "CR CR LF behind a length": chunked(b"1\r\r\nx\r\n"),
    "LF behind the last length": chunked(b"0\n\r\n"),
    "CR CR LF behind the last length": chunked(b"0\r\r\n\r\n"),
    "a semicolon without an extension": chunked(b"1;\r\nx\r\n"),
    "a semicolon and a blank": chunked(b"1; \r\nx\r\n"),
    "two semicolons": chunked(b"1;;a\r\nx\r\n"),
    "an extension without a name": chunked(b"1;=a\r\nx\r\n"),
    "an extension with half a value": chunked(b"1;a=\r\nx\r\n"),
    "a quote that is left open": chunked(b'1;a="\r\n"\r\nx\r\n'),
    "a quote that is opened again": chunked(b'1;a="b"c"\r\nx\r\n'),
    "a quote that is not closed": chunked(b'1;a="b\\"\r\nx\r\n'),
    "LF in a quote": chunked(b'1;a="\n"\r\nx\r\n'),
    "a semicolon before LF": chunked(b"1;\nx\r\n"),
    "an extension of the last chunk before LF": chunked(b"0;a\n\r\n"),
    "CR in an extension": chunked(b"1;a\rb\r\nx\r\n"),
    "LF in an extension": chunked(b"1;a\nb\r\nx\r\n"),
    "NUL in an extension": chunked(b"1;a\0b\r\nx\r\n"),
    "a byte above 0x7f in an extension": chunked(b"1;\x80\r\nx\r\n"),
    "an endless extension": chunked(b"1;" + b"a" * 300),
    "more than the chunk says": chunked(b"1\r\nxy\r\n"),
    "less than the chunk says": chunked(b"3\r\nx\r\n0\r\n\r\n"),
    "LF behind a chunk": chunked(b"1\r\nx\n0\r\n\r\n"),
    "CR behind a chunk": chunked(b"1\r\nx\r0\r\n\r\n"),
    "LF CR behind a chunk": chunked(b"1\r\nx\n\r0\r\n\r\n"),
    "an empty line behind a chunk": chunked(b"1\r\nx\r\n\r\n0\r\n\r\n"),
    "nothing behind a chunk": chunked(b"1\r\nx0\r\n\r\n"),
    "a bad header behind the last chunk": chunked(b"0\r\nX : a\r\n\r\n"),
    "a continued header behind it": chunked(b"0\r\nX: a\r\n b\r\n\r\n"),
    "a header behind it that begins with a blank": chunked(b"0\r\n X: a\r\n\r\n"),
    "a header behind it without a colon": chunked(b"0\r\nX\r\n\r\n"),
    "a header behind it without a name": chunked(b"0\r\n: a\r\n\r\n"),
    "a header behind it with a byte above 0x7f in its name": chunked(b"0\r\nX\x80: a\r\n\r\n"),
    "NUL in a header behind it": chunked(b"0\r\nX: \0\r\n\r\n"),
    "a vertical tab in a header behind it": chunked(b"0\r\nX: \x0b\r\n\r\n"),
    "CR in a header behind it": chunked(b"0\r\nX: a\rY: b\r\n\r\n"),
    "LF as the end of a body": chunked(b"0\r\n\n"),
    "LF as the end of a header behind it": chunked(b"0\r\nX: a\n\n"),
    "LF as the empty line behind it": chunked(b"0\r\nX: a\r\n\n"),
    "a request behind the last chunk": chunked(b"0\r\n" + GET),
    "LF in a header behind it": chunked(b"0\r\nX: a\nY: b\r\n\r\n"),
    "endless headers behind it": chunked(b"0\r\n" + b"X: y\r\n" * 4_000),
    # Bounds.
    "a long request line": b"GET /" + b"x" * 8_192,
    "a long request line that ends": get(line=b"GET /" + b"x" * 8_192 + b" HTTP/1.1"),
    "long headers": get(b"X: " + b"x" * 16_384),
    "long headers without an end": b"GET / HTTP/1.1\r\nX: " + b"x" * 16_384,
    "many headers": get(*[b"X: y"] * 600),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
class TestRefused:
    def test_is_refused(self, data: bytes) -> None:
        requests, end = read([data])
        assert (requests, end) == ([], "bad_request")

    def test_whatever_comes_before_and_after(self, data: bytes) -> None:
        requests, end = read([GET + data + GET])
        assert requests[1:] == []
        assert end == "bad_request"

    def test_byte_by_byte(self, data: bytes) -> None:
        requests, end = read(data[i : i + 1] for i in range(len(data)))
        assert (requests, end) == ([], "bad_request")


READ = {
    "nothing but the Host": (get(), b"", True),
    "an empty line before": (b"\r\n" + get(), b"", True),
    "a value that is empty": (get(b"X:"), b"", True),
    "bytes above 0x7f in a value": (get(b"X: \x80\xff"), b"", True),
    "close": (get(b"Connection: close"), b"", False),
    "Close among others": (get(b"Connection: x, Close , y"), b"", False),
    "close in a second header": (get(b"Connection: keep-alive", b"Connection: close"), b"", False),
    "not quite close": (get(b"Connection: closed"), b"", True),
    "HTTP/1.0": (get(line=b"GET / HTTP/1.0"), b"", False),
    "HTTP/1.0 that stays": (get(b"Connection: Keep-Alive", line=b"GET / HTTP/1.0"), b"", True),
    "HTTP/1.0 that stays and goes": (
        get(b"Connection: keep-alive, close", line=b"GET / HTTP/1.0"),
        b"",
        False,
    ),
    "a length": (post(b"Content-Length: 3", body=b"abc"), b"abc", True),
    "a length with blanks around it": (post(b"Content-Length: \t3 \t", body=b"abc"), b"abc", True),
    "a length with zeros before": (post(b"Content-Length: 00003", body=b"abc"), b"abc", True),
    "another header than a length": (post(b"Content_Length: 3"), b"", True),
    "another header than a coding": (
        post(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        b"0\r\n\r\n",
        True,
    ),
    "a header of the content's coding": (
        post(b"Content-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        b"0\r\n\r\n",
        True,
    ),
    "no length": (post(b"Content-Length: 0"), b"", True),
    "a body of GET": (get(b"Content-Length: 3") + b"abc", b"abc", True),
    "a body that looks like a request": (post(b"Content-Length: 27", body=GET), GET, True),
    "chunks": (chunked(b"1\r\na\r\nA\r\nbcdefghijk\r\n0\r\n\r\n"), b"abcdefghijk", True),
    "chunks in capitals": (post(b"transfer-encoding: Chunked", body=b"1\r\na\r\n0\r\n\r\n"), b"a", True),
    "chunks with a tab before": (post(b"Transfer-Encoding:\tchunked", body=b"0\r\n\r\n"), b"", True),
    "chunks without a blank before": (post(b"Transfer-Encoding:chunked", body=b"0\r\n\r\n"), b"", True),
    "chunks of GET": (get(b"Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n", b"a", True),
    "a chunk of 16 digits": (chunked(b"0000000000000001\r\na\r\n0\r\n\r\n"), b"a", True),
    "chunks that look like a request": (chunked(b"1b\r\n" + GET + b"\r\n0\r\n\r\n"), GET, True),
    "a chunk that looks like the last one": (
        chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        b"0\r\n\r\n",
        True,
    ),
    "a chunk with zeros before": (chunked(b"0001\r\na\r\n000\r\n\r\n"), b"a", True),
    "extensions": (chunked(b'1;a=b;c="d e"\r\na\r\n0;x\r\n\r\n'), b"a", True),
    "extensions with blanks": (chunked(b'1; a = "\\"";\tb\r\na\r\n0\r\n\r\n'), b"a", True),
    "headers behind it that mean nothing there": (
        chunked(b"0\r\nTransfer-Encoding: chunked\r\nHost: b\r\nConnection: close\r\n\r\n"),
        b"",
        True,
    ),
    "headers behind it": (chunked(b"1\r\na\r\n0\r\nX: y\r\nContent-Length: 5\r\n\r\n"), b"a", True),
    "no chunks": (chunked(b"0\r\n\r\n"), b"", True),
    "an upgrade to HTTP/2": (
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A"),
        b"",
        True,
    ),
    "an upgrade with a body": (
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 27", body=GET),
        GET,
        True,
    ),
    "an upgrade with chunks": (
        post(
            b"Connection: Upgrade",
            b"Upgrade: h2c",
            b"Transfer-Encoding: chunked",
            body=b"1\r\na\r\n0\r\n\r\n",
        ),
        b"a",
        True,
    ),
    "CONNECT": (get(line=b"CONNECT a:80 HTTP/1.1"), b"", True),
    "CONNECT with a body": (
        get(b"Content-Length: 3", line=b"CONNECT a:80 HTTP/1.1") + b"abc",
        b"abc",
        True,
    ),
    "an absolute target": (get(line=b"GET http://a/b?c HTTP/1.1"), b"", True),
    "an absolute target in capitals": (get(line=b"GET HTTP://A?c HTTP/1.1"), b"", True),
    "a value that begins with a colon": (get(b"X:: a"), b"", True),
    "an asterisk": (get(line=b"OPTIONS * HTTP/1.1"), b"", True),
    "a method with a dash": (get(line=b"M-SEARCH / HTTP/1.1"), b"", True),
}


@pytest.mark.parametrize(("data", "body", "persistent"), READ.values(), ids=READ)
class TestRead:
    def test_once(self, data: bytes, body: bytes, persistent: bool) -> None:
        head, found = one(data)
        assert (found, head.persistent) == (body, persistent)
        assert head.headers[b"host"] == [b"a"]

    def test_among_others(self, data: bytes, body: bytes, persistent: bool) -> None:
        requests, end = read([GET + data + data + GET])
        assert end == ""
        assert [found for _, found in requests] == [b"", body, body, b""]
        assert requests[1] == requests[2] == one(data)

    def test_byte_by_byte(self, data: bytes, body: bytes, persistent: bool) -> None:
        requests, end = read(data[i : i + 1] for i in range(len(data)))
        assert (requests, end) == ([one(data)], "")

    def test_part_of_it_waits(self, data: bytes, body: bytes, persistent: bool) -> None:
        for size in range(3, len(data)):
            assert read([data[:size]]) == ([], "waits")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"BREW /pot HTTP/1.1", "unknown_method"),
        (b"XGET / HTTP/1.1", "unknown_method"),
        (b"get / HTTP/1.1", "bad_request"),
        (b"GE\x80T / HTTP/1.1", "bad_request"),
        (b"GET /\x80 HTTP/1.1", "bad_path"),
        (b"GET /\x01 HTTP/1.1", "bad_path"),
        (b"GET /\t HTTP/1.1", "bad_path"),
        (b"GET foo HTTP/1.1", "bad_path"),
        (b"GET  HTTP/1.1", "bad_path"),
        (b"GET example.org:80 HTTP/1.1", "bad_path"),
    ],
)
def test_what_is_asked_for_in_vain(line: bytes, code: str) -> None:
    data = get(line=line)
    assert read([data]) == ([], code)
    assert read(data[i : i + 1] for i in range(len(data))) == ([], code)


def test_a_head_says_all_that_was_asked() -> None:
    head, body = one(
        b"POST /items?ack=all HTTP/1.1\r\nHOST: a:1\r\nX-Y: 1\r\nx-y:2 \r\nExpect: 100-Continue\r\n"
        b"Content-Length: 2\r\n\r\n[]"
    )
    assert head == Head(
        b"POST",
        b"/items?ack=all",
        b"HTTP/1.1",
        {b"host": [b"a:1"], b"x-y": [b"1", b"2"], b"expect": [b"100-Continue"], b"content-length": [b"2"]},
        length=2,
        persistent=True,
        expects=True,
    )
    assert body == b"[]"


@pytest.mark.parametrize(
    ("data", "expects"),
    [
        (post(b"Expect: 100-continue", b"Content-Length: 1"), True),
        (post(b"Expect: 100-continue", b"Transfer-Encoding: chunked"), True),
        (post(b"Expect: 100-continue", b"Content-Length: 0"), False),
        (post(b"Expect: 100-continue"), False),
        (post(b"Expect: a miracle", b"Content-Length: 1"), False),
        (post(b"Expect: 100-continue", b"Content-Length: 1", line=b"POST / HTTP/1.0"), False),
    ],
)
def test_who_waits_for_a_hint_to_go_on(data: bytes, expects: bool) -> None:
    reader = RequestReader(LIMITS)
    reader.receive(data)
    head = reader.next_event()
    assert isinstance(head, Head)
    assert head.expects is expects


def test_limits_are_exact() -> None:
    line = b"GET /" + b"x" * (8_192 - 14) + b" HTTP/1.1"
    assert read([get(line=line)])[1] == ""
    assert read([get(line=line.replace(b"/x", b"/xx"))])[1] == "bad_request"
    rest = 16_384 - len(get(b"X: "))
    assert read([get(b"X: " + b"x" * rest)])[1] == ""
    assert read([get(b"X: " + b"x" * (rest + 1))])[1] == "bad_request"
    assert read([get(*[b"X: y"] * 499)])[1] == ""
    assert read([get(*[b"X: y"] * 500)])[1] == "bad_request"
    assert read([chunked(b"1;" + b"a" * 254 + b"\r\nx\r\n0\r\n\r\n")])[1] == ""
    assert read([chunked(b"1;" + b"a" * 255 + b"\r\nx\r\n0\r\n\r\n")])[1] == "bad_request"


ANYTHING = st.lists(st.sampled_from([*REFUSED.values(), *(each for each, _, _ in READ.values())]), max_size=4)


@given(ANYTHING, st.data())
def test_it_does_not_matter_how_the_bytes_come(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(pieces) == read([whole])


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n", b"GET / HTTP/1.1\r\n", b"0\r\n\r\n"])))
def test_nothing_that_comes_makes_it_fail(parts: list[bytes]) -> None:
    for beginning in (b"", get()[:-2], chunked(b"")):
        requests, end = read([beginning, *parts])
        assert (requests, end) == read([beginning + b"".join(parts)])


def test_a_refusal_names_its_reason_and_the_limit() -> None:
    reader = RequestReader(LIMITS)
    reader.receive(get(b"X : y"))
    with pytest.raises(Refusal, match="Invalid header token; its line and headers may have 16384 bytes"):
        reader.next_event()

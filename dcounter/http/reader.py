"""
From the bytes of a connection to requests: heads by llhttp, the parser of Node.js; bodies by their framing.

Pure: bytes go in, events come out. What two programs could read as two different things is refused: that is
how requests are smuggled past a proxy. llhttp is strict about most of it; what it lets pass is checked here.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, assert_never

import httptools
from msgspec import Struct

from dcounter.http.limits import HttpLimits
from dcounter.http.paths import ORIGIN
from dcounter.http.problems import BadPath, BadRequest, UnknownMethod

_ANY_METHOD: Final = re.compile(rb"[A-Z][A-Z-]{0,31} ")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_BARE: Final = re.compile(rb"\n|\r.", re.DOTALL)
"""
The end of a line that is none, where there is no other.
"""

_LOOSE: Final = re.compile(rb"(?<!\r)\n|\r[^\n]")
"""
The end of a line that is none, among others that are.
"""

_DEFAULT_PORTS: Final = {b"http:": re.compile(rb":(?:80)?\Z"), b"https": re.compile(rb":(?:443)?\Z")}
"""
The end of a server's name that says no more than its scheme, by the beginning of a target.
"""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_TRAILERS: Final = re.compile(rb"(?:%b:[\t -~\x80-\xff]*\r\n)+" % _TOKEN)


class Head(Struct, frozen=True):
    """
    All of a request but its body.

    :ivar target: what is asked for, as it came.
    :ivar version: `HTTP/1.0` or `HTTP/1.1`.
    :ivar headers: the values of each header; names in lower case.
    :ivar length: bytes of the body; `None`: it comes in chunks.
    :ivar persistent: whether the caller may send another request after this one.
    :ivar expects: whether the caller waits for `100 Continue` before it sends the body.
    :ivar body: all of the body, if it is small and here; `None`: it comes as events, if there is one.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: Mapping[bytes, Sequence[bytes]]
    length: int | None
    persistent: bool
    expects: bool
    body: bytes | None = None


class _Phase(enum.Enum):
    """
    What comes next.
    """

    HEAD = enum.auto()
    BODY = enum.auto()
    CHUNK_LINE = enum.auto()
    CHUNK = enum.auto()
    AFTER_CHUNK = enum.auto()
    TRAILERS = enum.auto()
    END = enum.auto()


class End(enum.Enum):
    """
    The event after the last byte of a body.
    """

    END = enum.auto()


Event = Head | bytes | Literal[End.END]
"""
A head, a part of its body, or the end of that body. A request without a body is a head only, and so is one
whose small body came with it.
"""


class _Fields:
    """
    What llhttp has found of a head so far.
    """

    __slots__ = ("complete", "headers", "target")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """
        Forget the head before.
        """
        self.target = b""
        self.headers: dict[bytes, list[bytes]] = {}
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        # llhttp leaves white space at the end of a value.
        value = value.rstrip(b" \t")
        if name in self.headers:
            self.headers[name].append(value)
        else:
            self.headers[name] = [value]

    def on_headers_complete(self) -> None:
        self.complete = True


class RequestReader:
    """
    Reads the requests of one connection: `receive` bytes, then take events until there are none.

    llhttp is given each head up to the empty line behind it and not a byte more. So it never reads ahead, and
    never decides where a body ends: for a request that offers to upgrade it would skip the body.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._fields = _Fields()
        self._parser: httptools.HttpRequestParser | None = None
        self._phase = _Phase.HEAD
        # What has come; where the part that is not used yet begins; up to where llhttp has seen it.
        self._buffer = b""
        self._at = 0
        self._fed = 0
        self._left = 0

    @property
    def unread(self) -> int:
        """
        Bytes that have come, and are in no event yet.
        """
        return len(self._buffer) - self._at

    @property
    def in_head(self) -> bool:
        """
        Whether a part of a head is there.
        """
        return self._phase is _Phase.HEAD and self._buffer[self._at : self._at + 2] not in (
            b"",
            b"\r",
            b"\r\n",
        )

    def receive(self, data: bytes) -> None:
        """
        Take what came over the connection.
        """
        if self._at < len(self._buffer):
            self._buffer = self._buffer[self._at :] + data
            self._fed -= self._at
        else:
            self._buffer = data
            self._fed = 0
        self._at = 0

    def next_event(self) -> Event | None:
        """
        What comes next; `None`: that is not here yet.

        :raises BadRequest: it cannot be read. Nothing after it can be, either.
        """
        if self._phase is _Phase.HEAD:
            return self._read_head()
        match self._phase:
            case _Phase.BODY | _Phase.CHUNK:
                return self._read_data()
            case _Phase.CHUNK_LINE | _Phase.AFTER_CHUNK:
                return self._read_chunk()
            case _Phase.TRAILERS:
                return self._read_trailers()
            case _Phase.END:
                self._phase = _Phase.HEAD
                return End.END
            case _:
                assert_never(self._phase)

    def _read_head(self) -> Head | None:
        buffer = self._buffer
        if self._at == len(buffer):
            return None
        if not 65 <= buffer[self._at] <= 90 and not self._skip_empty_line():
            return None
        start = self._at
        end = buffer.find(b"\r\n\r\n", max(start, self._fed - 3)) + 4
        line_end = buffer.find(b"\r\n", start, start + self._limits.max_request_line_bytes + 2)
        if line_end < 0:
            if len(buffer) - start > self._limits.max_request_line_bytes + 1:
                raise self._bad(f"its first line is longer than {self._limits.max_request_line_bytes} bytes")
            if _BARE.search(buffer, start):
                raise self._bad("a line ends without CR and LF")
            return None
        self._feed(start, end if end > 3 else len(buffer))
        if end <= 3:
            return None
        self._at = end
        return self._head(start, line_end, end)

    def _skip_empty_line(self) -> bool:
        """
        Skip the one empty line that old callers send after a body; whether a request line begins after it.
        """
        beginning = self._buffer[self._at : self._at + 3]
        if beginning in (b"\r", b"\r\n"):
            return False
        if beginning[:2] != b"\r\n" or not 65 <= beginning[2] <= 90:
            raise self._bad("it does not begin with a method")
        self._at += 2
        return True

    def _feed(self, start: int, end: int) -> None:
        """
        Let llhttp see a head up to here.
        """
        fields = self._fields
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(fields)
        if self._fed <= start:
            self._fed = start
            fields.begin()
        most = start + self._limits.max_head_bytes
        try:
            self._parser.feed_data(self._buffer[self._fed : min(end, most)])
        except httptools.HttpParserUpgrade:
            # The offer is not taken: what follows is HTTP/1.
            self._parser = None
        except httptools.HttpParserInvalidMethodError as error:
            if _ANY_METHOD.match(self._buffer, start):
                raise UnknownMethod from error
            raise self._bad("it does not begin with a method") from error
        except httptools.HttpParserInvalidURLError as error:
            raise BadPath("the request's target must be visible ASCII, and begin with a slash") from error
        except httptools.HttpParserError as error:
            raise self._bad(str(error)) from error
        self._fed = end
        if end > most:
            raise self._bad(f"it is longer than {self._limits.max_head_bytes} bytes")

    def _head(self, start: int, line_end: int, end: int) -> Head:
        """
        The head that llhttp has seen to the end.
        """
        line = self._buffer[start:line_end]
        fields = self._fields
        headers = fields.headers
        target = fields.target
        method, _, rest = line.partition(b" ")
        version = rest[len(target) + 1 :]
        # Other versions, other protocols, and blanks that are not one space: llhttp knows them.
        if (
            not fields.complete
            or version not in (b"HTTP/1.1", b"HTTP/1.0")
            or not rest.startswith(target)
            or rest[len(target)] != 32
        ):
            raise self._bad("its first line is not that of HTTP/1.0 or 1.1")
        if rest[0] != 47:
            self._check_origin(target)
        if self._buffer.count(b"\r\n", line_end + 2, end) > self._limits.max_headers + 1:
            raise self._bad(f"it has more than {self._limits.max_headers} headers")
        old = version == b"HTTP/1.0"
        length = self._length(old=old)
        persistent = not old
        if b"connection" in headers:
            said = b",".join(headers[b"connection"]).lower()
            # Most say no more than that.
            options = (said,) if said == b"keep-alive" else [each.strip() for each in said.split(b",")]
            persistent = b"close" not in options and (persistent or b"keep-alive" in options)
        if length != 0 or old or not persistent:
            # llhttp waits for the body, or for the end.
            self._parser = None
        if length == 0:
            return Head(method, target, version, headers, length, persistent, expects=False)
        expects = not old and any(each.lower() == b"100-continue" for each in headers.get(b"expect", ()))
        body = None
        if length is None:
            self._phase = _Phase.CHUNK_LINE
        elif length <= self._limits.small_body_bytes and length <= len(self._buffer) - end:
            self._at = end + length
            body = self._buffer[end : self._at]
        else:
            self._phase = _Phase.BODY
            self._left = length
        return Head(method, target, version, headers, length, persistent, expects, body)

    def _check_origin(self, target: bytes) -> None:
        """
        :raises BadRequest: the target, which does not begin with a slash, names another server than `Host`.
        """
        found, hosts = ORIGIN.match(target), self._fields.headers.get(b"host")
        # A program between us may go by either of the two.
        if found is None or hosts is None or found[1].lower() == hosts[0].lower():
            return
        default = _DEFAULT_PORTS[target[:5].lower()]
        if default.sub(b"", found[1].lower()) != default.sub(b"", hosts[0].lower()):
            raise self._bad("its target and its Host name two different servers")

    def _length(self, *, old: bool) -> int | None:
        headers = self._fields.headers
        codings, lengths = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        if codings is not None:
            # A program between us that knows of no chunks would see another body.
            if old or lengths is not None or len(codings) != 1 or codings[0].lower() != b"chunked":
                raise self._bad("Transfer-Encoding can only be chunked, once, and without Content-Length")
            return None
        if lengths is None:
            return 0
        if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
            raise self._bad("Content-Length must be one number")
        return int(lengths[0])

    def _read_data(self) -> bytes | End | None:
        """
        What is here of a body of known length, or of a chunk.
        """
        start = self._at
        data = self._buffer[start : start + self._left]
        if not data:
            return None
        self._at = start + len(data)
        self._left -= len(data)
        if not self._left:
            self._phase = _Phase.END if self._phase is _Phase.BODY else _Phase.AFTER_CHUNK
        return data

    def _read_chunk(self) -> Event | None:
        """
        The line that tells how long a chunk is, and the end of the chunk before it.
        """
        if self._phase is _Phase.AFTER_CHUNK:
            found = self._buffer[self._at : self._at + 2]
            if found != b"\r\n":
                if found not in (b"", b"\r"):
                    raise self._bad("a chunk of its body is longer than it says")
                return None
            self._at += 2
            self._phase = _Phase.CHUNK_LINE
        most = self._limits.max_chunk_line_bytes
        end = self._buffer.find(b"\r\n", self._at, self._at + most + 2)
        if end < 0:
            if self.unread > most + 1 or self._buffer.find(b"\n", self._at) >= 0:
                raise self._bad("the length of a chunk of its body cannot be read")
            return None
        found_size = _CHUNK_LINE.fullmatch(self._buffer, self._at, end)
        if found_size is None:
            raise self._bad("the length of a chunk of its body cannot be read")
        self._at = end + 2
        self._left = int(found_size[1], 16)
        self._phase = _Phase.CHUNK if self._left else _Phase.TRAILERS
        return self.next_event()

    def _read_trailers(self) -> End | None:
        """
        The end of the last chunk. Headers may come before it; none of them means anything here.
        """
        if self._buffer.startswith(b"\r\n", self._at):
            self._at += 2
        else:
            most = self._limits.max_head_bytes
            end = self._buffer.find(b"\r\n\r\n", self._at, self._at + most)
            if end < 0:
                if self.unread >= most:
                    raise self._bad(f"the headers after its body are longer than {most} bytes")
                if _LOOSE.search(self._buffer, self._at):
                    raise self._bad("a line after its body ends without CR and LF")
                return None
            if _TRAILERS.fullmatch(self._buffer, self._at, end + 2) is None:
                raise self._bad("a header after its body cannot be read")
            self._at = end + 4
        self._phase = _Phase.HEAD
        return End.END

    def _bad(self, why: str) -> BadRequest:
        return BadRequest(
            f"the request cannot be read: {why}; its line and headers may have"
            f" {self._limits.max_head_bytes} bytes"
        )


def check_host(head: Head) -> None:
    """
    :raises BadRequest: the request does not say for whom it is, or says two things (RFC 9112, 3.2).
    """
    hosts = head.headers.get(b"host", ())
    if len(hosts) > 1 or (not hosts and head.version == b"HTTP/1.1"):
        raise BadRequest(f"a request has one header Host, and not {len(hosts)}")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise BadRequest("the header Host is neither a name nor an address")

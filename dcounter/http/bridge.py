"""
Requests of twisted.web over our connections, for what Klein routes.

A request of twisted.web talks to a channel. That seam is public: a stream of twisted.web's HTTP/2 is another
such channel.
"""

# The request of twisted.web, which is extended here, has no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterable
from io import BytesIO
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request

from dcounter.http.reader import Head
from dcounter.outlet import Outlet


class Line(Protocol):
    """
    A connection, and what is at its ends.

    :ivar outlet: where the answer goes.
    """

    transport: Any
    outlet: Outlet

    @property
    def peer(self) -> IAddress:
        """
        The address of the caller.
        """

    @property
    def host(self) -> IAddress:
        """
        The address that it connected to.
        """

    @property
    def secure(self) -> bool:
        """
        Whether the connection is encrypted.
        """

    def answered(self) -> None:
        """
        Go on: the answer is written.
        """


class Encoder(Protocol):
    """
    What builds the bytes of an answer.
    """

    def encode_head(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """
        Build the head of an answer.
        """


class _InMemory:
    """
    What a request asks its site: where bodies are kept. Twisted would write large ones to a file.
    """

    @staticmethod
    def getContentFile(length: int | None) -> BytesIO:
        return BytesIO()

    displayTracebacks = False


class Channel:
    """
    A connection, as the request of twisted.web that it carries sees it.
    """

    site = _InMemory()

    def __init__(self, line: Line, encoder: Encoder) -> None:
        self._line = line
        self._encoder = encoder
        self.transport = line.transport

    def getPeer(self) -> IAddress:
        return self._line.peer

    def getHost(self) -> IAddress:
        return self._line.host

    def isSecure(self) -> bool:
        return self._line.secure

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        fields = [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self._line.outlet.write(self._encoder.encode_head(int(code), fields))

    def write(self, data: bytes) -> None:
        self._line.outlet.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self._line.outlet.write(b"".join(data))

    def requestDone(self, request: Request) -> None:
        self._line.answered()


class BridgedRequest(Request):
    """
    A request that is rendered by one resource, whatever its path.

    :ivar resource: answers it.
    :ivar ends_with_caller: whether it is cancelled when its caller stops sending. The route sets it.
    """

    ends_with_caller = False

    # Every answer names its type; none is HTML.
    defaultContentType = None

    def __init__(self, channel: Channel, resource: IResource) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self._resource = resource

    def getRequestHostname(self) -> bytes:
        """
        Not the Host header: Klein would decode it and werkzeug check it, and no route depends on it.
        """
        return b"localhost"

    def process(self) -> None:
        # Twisted's own looks for a resource along the decoded path, and answers `*` by itself.
        self.prepath = []
        self.postpath = []
        self.render(self._resource)


def pass_on(line: Line, encoder: Encoder, resource: IResource, head: Head, body: bytes) -> BridgedRequest:
    """
    Have a resource of twisted.web answer a request.
    """
    request = BridgedRequest(Channel(line, encoder), resource)
    for name, values in head.headers.items():
        request.requestHeaders.setRawHeaders(name, values)
    request.gotLength(len(body))
    request.handleContentChunk(body)
    request.requestReceived(head.method, head.target, head.version)
    return request

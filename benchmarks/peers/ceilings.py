"""
Two ceilings: Klein, and a bare resource of twisted.web, that decode a body and store nothing.

    python -m benchmarks.peers.ceilings klein 8080
"""

import sys
from typing import Final

import msgspec
from klein import Klein
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorCore, IReactorTCP
from twisted.web.http import Request as PlainRequest
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from benchmarks.peers.items import decode

_STORED: Final = b'{"status":"OK"}'
_COUNTED: Final = msgspec.json.encode({"counter": 1, "tenant": "tenant-1"})


class _QuietSite(Site):
    """
    No access log, as with the daemon.
    """

    def startFactory(self) -> None:
        pass

    def log(self, request: PlainRequest) -> None:
        pass


class _BareItems(Resource):
    isLeaf = True

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        decode(request.content.read())
        return _json(request, _STORED)

    def render_GET(self, request: Request) -> bytes:
        return _json(request, _COUNTED)


def _json(request: IRequest, content: bytes) -> bytes:
    request.setHeader(b"content-type", b"application/json")
    return content


def _klein() -> IResource:
    app = Klein()

    @app.route("/items", methods=["POST"])
    def store(request: IRequest) -> bytes:
        decode(request.content.read())
        return _json(request, _STORED)

    @app.route("/items/<tenant>/count", methods=["GET"])
    def count(request: IRequest, tenant: str) -> bytes:
        return _json(request, _COUNTED)

    resource: IResource = app.resource()
    return resource


def main() -> None:
    kind, port = sys.argv[1:]
    site = _QuietSite(_klein() if kind == "klein" else _BareItems(), parsePOSTFormSubmission=False)
    TCP4ServerEndpoint(IReactorTCP(reactor), int(port), interface="127.0.0.1").listen(site)
    IReactorCore(reactor).run()


if __name__ == "__main__":
    main()

"""
Klein between Twisted's requests and the `Api`: which path is whose, and nothing else.

The two routes that carry the load also have a shorter way: Klein costs more than the rest of a small request.
"""

import re
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, cast

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from dcounter.errors import Outcome, Refusal
from dcounter.http.api import Api
from dcounter.http.callers import is_this_machine
from dcounter.http.paths import raw_query, raw_segments
from dcounter.http.problems import Answer, InternalError, UnknownPath, WrongMethod, problem

_log = Logger()

_COUNT: Final = re.compile(rb"/items/([!-.0->@-~]+)/count(?:\?([!-~]*))?")
"""The plainest form of a count's target: one segment of visible ASCII, and perhaps a query."""


class Routes:
    """
    The paths and methods of the API.
    """

    app = Klein()
    # An empty segment is no tenant; it must not be tidied away by a redirect.
    app.url_map.merge_slashes = False

    def __init__(self, api: Api) -> None:
        self._api = api

    @app.route("/items", methods=["POST"])
    async def store_items(self, request: IRequest) -> bytes:
        answer = await self._api.store_items(request.content.read(), raw_query(request.uri))
        return prepare(request, answer)

    @app.route("/items/<tenant>/count", methods=["GET"])
    async def count_items(self, request: IRequest, tenant: str) -> bytes:
        return prepare(request, await self._api.count_items(tenant, raw_query(request.uri)))

    @app.route("/cluster", methods=["GET"])
    def cluster(self, request: IRequest) -> bytes:
        return prepare(request, self._api.cluster(raw_query(request.uri)))

    @app.route("/cluster/restart", methods=["POST"])
    async def restart(self, request: IRequest) -> bytes:
        return prepare(request, await _operate(request, self._api.restart))

    @app.route("/cluster/forget", methods=["POST"])
    async def forget(self, request: IRequest) -> bytes:
        return prepare(request, await _operate(request, self._api.forget))

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: IRequest) -> bytes:
        return prepare(request, self._api.healthz(raw_query(request.uri)))

    @app.route("/readyz", methods=["GET"])
    def readyz(self, request: IRequest) -> bytes:
        return prepare(request, self._api.readyz(raw_query(request.uri)))

    @app.route("/openapi.json", methods=["GET"])
    def openapi(self, request: IRequest) -> bytes:
        return prepare(request, self._api.openapi(raw_query(request.uri)))

    @app.handle_errors(MethodNotAllowed)
    def wrong_method(self, request: IRequest, failure: Failure) -> bytes:
        allowed = cast("MethodNotAllowed", failure.value).valid_methods or ()
        return prepare(request, problem(WrongMethod(allowed)))

    @app.handle_errors(HTTPException)
    def unknown_path(self, request: IRequest, failure: Failure) -> bytes:
        return prepare(request, problem(UnknownPath()))

    @app.handle_errors(Exception)
    def internal_error(self, request: IRequest, failure: Failure) -> bytes:
        return prepare(request, own_up(request, failure))


class Root(Resource):
    """
    Hands requests to Klein with their path segments as they came, for the routes to decode.

    Twisted decodes them first, and Klein joins them again: `a%2Fb` would become two segments.
    """

    isLeaf = True

    def __init__(self, routes: IResource) -> None:
        super().__init__()
        self._routes = routes

    def render(self, request: IRequest) -> int:
        try:
            request.postpath = raw_segments(request.uri)
        except Refusal as refusal:
            request.write(prepare(request, problem(refusal)))
            request.finish()
            return NOT_DONE_YET
        # NOT_DONE_YET, always
        return cast("int", self._routes.render(request))


def make_resource(api: Api) -> Root:
    """
    The API as a resource of twisted.web.
    """
    return Root(Routes(api).app.resource())


def shortcut(api: Api, request: Request) -> Coroutine[Any, Any, Answer] | None:
    """
    The answer to a request for one of the two routes that carry the load, as they are usually asked for.

    `None` for all else. What this does, `Routes` does as well: it may be taken away.
    """
    target = request.uri
    if request.method == b"POST":
        path, _, query = target.partition(b"?")
        if path == b"/items" and query.isascii():
            return api.store_items(cast("BytesIO", request.content).read(), query)
    elif request.method == b"GET":
        found = _COUNT.fullmatch(target)
        if found is not None:
            return api.count_items(found[1].decode(), found[2] or b"")
    return None


def own_up(request: IRequest, failure: Failure) -> Answer:
    """
    Log a bug, and make the answer that admits it.
    """
    _log.failure(
        "{method} {uri} failed",
        failure,
        method=request.method.decode(),
        uri=request.uri.decode(),
    )
    # What was sent before it went wrong may be stored.
    outcome: Outcome | None = "unknown" if request.method == b"POST" else None
    return problem(InternalError(), outcome=outcome)


def prepare(request: IRequest, answer: Answer) -> bytes:
    """
    Set an answer's status and headers; its body is left to write.
    """
    # Twisted does not know all of them by name.
    request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
    request.setHeader(b"Content-Type", answer.content_type)
    request.setHeader(b"Content-Length", b"%d" % len(answer.body))
    for name, value in answer.headers:
        request.setHeader(name, value)
    return answer.body


async def _operate(request: IRequest, operation: Callable[..., Awaitable[Answer]]) -> Answer:
    """
    Have the API do what only the operator may ask for.
    """
    shown = request.requestHeaders.getRawHeaders(b"Authorization", [])
    return await operation(
        cast("bytes", request.content.read()),
        raw_query(request.uri),
        local=is_this_machine(request.getClientAddress()),
        # Two of them show nothing.
        authorization=shown[0] if len(shown) == 1 else b"",
    )

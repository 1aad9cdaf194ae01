"""
Routes requests to the functions of the table, by a short way or by Klein.

Klein costs more than the rest of a small request. So it gets only HEAD, unusual spellings of a path, and
requests that no route takes because of their path or method.
"""

import re
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, NamedTuple, Protocol, cast

from klein import Klein
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from dcounter.errors import Outcome, Refusal
from dcounter.http.admission import answer
from dcounter.http.call import Api, Call
from dcounter.http.figures import HttpFigures, RouteFigures
from dcounter.http.paths import raw_query, raw_segments
from dcounter.http.problems import Answer, InternalError, Parts, UnknownPath, WrongMethod, problem
from dcounter.http.route import Route
from dcounter.http.streams import WholeBody
from dcounter.http.tracing import in_words, names

_log = Logger()

_OPEN_SEGMENT: Final = re.compile(r"\\?\{(\w+)\\?\}")
_ORIGIN: Final = "(?:(?i:https?)://[^/?#]*)?"
"""
The beginning of a target that names its server, as requests through a proxy do.
"""

_SEGMENT: Final = r"[!\"$-.0->@-~]+"
"""
A plain segment: visible ASCII characters without slashes, question marks and number signs.
"""


Unrouted = Callable[[IRequest, Answer], bytes]
"""
Prepares the answer to a request that no route took.
"""


class Found(Struct, frozen=True):
    """
    The route of a request, and the parts of its target that the route leaves open, percent-encoded.

    :ivar figures: what is counted of the route.
    """

    route: Route
    segments: Sequence[str]
    query: bytes
    figures: RouteFigures


class ShortWay(Protocol):
    """
    Finds the route of some requests, and leaves the rest to Klein.
    """

    def find(self, method: bytes, target: bytes) -> Found | None:
        """
        The route of a request; `None` if Klein is to route it.
        """


_Target = tuple[re.Pattern[bytes], Route, Collection[Sequence[bytes]], RouteFigures]


class PlainPaths:
    """
    The short way, for paths that are spelled as in the table. Klein could route all of these, too.
    """

    def __init__(self, routes: Sequence[Route], figures: HttpFigures) -> None:
        self._targets: dict[bytes, list[_Target]] = {}
        fixed = methods_by_path(routes)
        for route in routes:
            path = _OPEN_SEGMENT.sub(f"({_SEGMENT})", re.escape(route.path))
            target = re.compile(rf"{_ORIGIN}{path}(?:\?([!\"$-~]*))?".encode())
            # A path of its own is no item whose ID is "lookup".
            found = [target.fullmatch(each.encode()) for each in fixed] if route.segments else []
            others = frozenset(each.groups(b"")[:-1] for each in found if each is not None)
            of_route = figures.of(route.method, route.path)
            self._targets.setdefault(route.method.encode(), []).append((target, route, others, of_route))

    def find(self, method: bytes, target: bytes) -> Found | None:
        for pattern, route, others, figures in self._targets.get(method, ()):
            found = pattern.fullmatch(target)
            if found is not None:
                *segments, query = found.groups(b"")
                if others and tuple(segments) in others:
                    continue
                return Found(route, [segment.decode() for segment in segments], query, figures)
        return None


class Root(Resource):
    """
    Hands requests to Klein with their path segments undecoded.

    Twisted would decode them, and Klein would join them again: `a%2Fb` would become two segments.
    """

    isLeaf = True

    def __init__(self, routes: IResource, unrouted: Unrouted) -> None:
        super().__init__()
        self._routes = routes
        self._unrouted = unrouted

    def render(self, request: IRequest) -> int:
        try:
            request.postpath = raw_segments(request.uri)
        except Refusal as refusal:
            request.write(self._unrouted(request, problem(refusal)))
            request.finish()
            return NOT_DONE_YET
        # Always NOT_DONE_YET.
        return cast("int", self._routes.render(request))


def make_resource(api: Api, routes: Sequence[Route]) -> Root:
    """
    The routes as a twisted.web resource.
    """
    app = Klein()
    # An empty segment is not a tenant, and must not be removed by a redirect.
    app.url_map.merge_slashes = False
    for route in routes:
        rule = _OPEN_SEGMENT.sub(r"<\1>", route.path)
        endpoint = f"{route.method} {route.path}"
        app.route(rule, methods=[route.method], endpoint=endpoint)(_by_klein(api, route))

    def unrouted(request: IRequest, answer: Answer) -> bytes:
        now = api.figures.seconds()
        api.figures.unrouted(request.method, answer.status, answer.refusal, now)
        _log_access(api, request, answer, now)
        return prepare(request, answer)

    _keep_apart(app, routes, unrouted)
    app.handle_errors(MethodNotAllowed)(lambda request, why: unrouted(request, _wrong_method(why)))
    app.handle_errors(HTTPException)(lambda request, why: unrouted(request, problem(UnknownPath())))
    app.handle_errors(Exception)(lambda request, why: unrouted(request, _internal_error(request, why)))
    return Root(app.resource(), unrouted)


def _by_klein(api: Api, route: Route) -> Callable[..., Coroutine[Any, Any, bytes]]:
    async def by_klein(request: IRequest, **segments: str) -> bytes:
        named = [segments[each.name] for each in route.segments]
        since = api.figures.seconds()
        headers = _headers(request)
        content: BytesIO = request.content
        body = content.read()
        call = Call(body, raw_query(request.uri), request.getClientAddress(), headers, named)
        asked = route.of_type(headers)
        cast("Any", request).ends_with_caller = asked.ends_with_caller
        if asked.streams_body:
            call.body, call.stream = b"", WholeBody(body)
        found = await answer(api, asked, call)
        whole = prepare(request, found)
        if found.stream is not None:
            await _write(request, found.stream, lasting=found.lasting)
        api.figures.answered(request.method.decode(), route.path, found.status, found.refusal, since)
        _log_access(api, request, found, since)
        return whole

    return by_klein


def _log_access(api: Api, request: IRequest, found: Answer, since: float) -> None:
    """
    Log a request that Klein has routed, if that is wanted.
    """
    if api.access.on:
        asked = _Asked(request.method, request.uri, _headers(request))
        api.access.answered(request.getClientAddress(), asked, found, api.figures.seconds() - since)


class _Asked(NamedTuple):
    method: bytes
    target: bytes
    headers: Mapping[bytes, Sequence[bytes]]


def _headers(request: IRequest) -> dict[bytes, Sequence[bytes]]:
    return {name.lower(): values for name, values in request.requestHeaders.getAllRawHeaders()}


async def _write(request: IRequest, stream: Parts, *, lasting: bool) -> None:
    """
    Write an answer as it is made. What comes this way is HEAD, or calls in memory: it waits for no reader.
    """
    if lasting:
        # It has no end of its own.
        gone: Deferred[None] = cast("Any", request).notifyFinish()
        gone.addBoth(lambda _: Deferred.fromCoroutine(stream.aclose()))
    try:
        if request.method != b"HEAD":
            async for part in stream:
                request.write(part)
    finally:
        await stream.aclose()


def methods_by_path(routes: Sequence[Route]) -> Mapping[str, Collection[str]]:
    """
    The methods of each path that has no variable segment.
    """
    found: dict[str, set[str]] = {}
    for route in routes:
        if not route.segments:
            methods = {"GET", "HEAD"} if route.method == "GET" else {route.method}
            found.setdefault(route.path, set()).update(methods)
    return found


def _keep_apart(app: Klein, routes: Sequence[Route], unrouted: Unrouted) -> None:
    """
    Refuse all other methods of a path that has no variable segment.

    Klein would take `GET /items/lookup` for the item whose ID is "lookup".
    """
    for path, methods in methods_by_path(routes).items():

        def wrong_method(request: IRequest, methods: Collection[str] = methods) -> bytes:
            return unrouted(request, problem(WrongMethod(methods)))

        # Of the rules for a path, the first one that fits is taken, and this one is the last.
        app.route(path, endpoint=f"other methods of {path}")(wrong_method)


def _wrong_method(failure: Failure) -> Answer:
    return problem(WrongMethod(cast("MethodNotAllowed", failure.value).valid_methods or ()))


def _internal_error(request: IRequest, failure: Failure) -> Answer:
    return report_bug(request.method, request.uri, _headers(request), failure)


def report_bug(
    method: bytes, target: bytes, headers: Mapping[bytes, Sequence[bytes]], failure: Failure
) -> Answer:
    """
    Log a bug and make the answer for it.
    """
    _log.failure(
        "{method} {uri} failed{named}",
        failure,
        method=method.decode(),
        uri=target.decode(),
        named=in_words(names(headers)),
    )
    # Items that were sent to nodes before the failure may be stored.
    outcome: Outcome | None = "unknown" if method not in {b"GET", b"HEAD"} else None
    return problem(InternalError(), outcome=outcome)


def prepare(request: IRequest, answer: Answer) -> bytes:
    """
    Set an answer's status and headers.

    :returns: the body, which is still to be written.
    """
    # Twisted does not know the phrases of all statuses.
    request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
    request.setHeader(b"Content-Type", answer.content_type)
    if answer.stream is None:
        request.setHeader(b"Content-Length", b"%d" % len(answer.body))
    for name, value in answer.headers:
        request.setHeader(name, value)
    if answer.kept:
        request.setHeader(b"Cache-Control", b"no-cache")
    return answer.body

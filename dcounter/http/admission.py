"""
The checks before a route's function runs: permission and parameters.
"""

from typing import Final

import msgspec

from dcounter.errors import Refusal
from dcounter.http.call import Api, Call
from dcounter.http.paths import decode_segment, parse_query
from dcounter.http.problems import Answer, Forbidden, problem
from dcounter.http.table import Route

_DEPRECATED_SINCE: Final = 1_795_910_400
"""
When paths were renamed (s since 1970): 2026-11-29.
"""


async def answer(api: Api, route: Route, call: Call) -> Answer:
    """
    Answer a request for a route. An exception from this function is a bug.
    """
    try:
        require_allowed(api, route, call)
        if call.query:
            call.parameters = parse_query(call.query, route.values)
        for parameter, segment in zip(route.segments, call.segments, strict=True):
            call.parameters[parameter.name] = decode_segment(segment)
        found = await route.function(api, call)
    except Refusal as refusal:
        # A refusal without an outcome of its own was raised before anything was done.
        found = problem(refusal, outcome="not_applied" if route.changes else None)
    return _with_successor(found, route.successor) if route.successor else found


def require_allowed(api: Api, route: Route, call: Call) -> None:
    """
    Refuse a request that may not be made. Its body need not be there.

    :raises Forbidden: only the operator may make it.
    """
    if route.scope == "operator":
        _require_operator(api, call)


def _require_operator(api: Api, call: Call) -> None:
    """
    Refuse a request that does not come from the operator.

    :raises Forbidden: the request does not prove it; the text says what is missing.
    """
    if not call.local:
        raise Forbidden("only callers on the daemon's own machine may do this")
    if api.token is None:
        raise Forbidden(
            "the daemon has no operator's token, because it has no data directory;"
            " start it with --operator-token-file FILE and send the token in that file"
        )
    shown = call.headers.get(b"authorization", ())
    # With two such headers, neither counts.
    if len(shown) != 1 or not api.token.matches(shown[0]):
        raise Forbidden(
            "the header 'Authorization: Bearer TOKEN' is missing, or its token is not the one in the file"
            f" {api.token.path}"
        )
    call.principal = "operator"


def _with_successor(answer: Answer, path: str) -> Answer:
    """
    Mark an answer's path as deprecated (RFC 9745), and name the path to use instead.
    """
    added = [
        (b"Deprecation", b"@%d" % _DEPRECATED_SINCE),
        (b"Link", b'<%s>; rel="successor-version"' % path.encode()),
    ]
    return msgspec.structs.replace(answer, headers=[*answer.headers, *added])

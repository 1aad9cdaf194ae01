"""
The checks before a route's function runs: permission and parameters.
"""

from typing import Final

from dcounter.errors import Refusal
from dcounter.http.auth import OPERATOR, Principal, Tokens
from dcounter.http.call import Api, Call, require_scope
from dcounter.http.paths import decode_segment, parse_query
from dcounter.http.problems import Answer, Forbidden, TooManyRequests, Unauthenticated, problem
from dcounter.http.route import Route

_DEPRECATED_SINCE: Final = 1_795_910_400
"""
When paths were renamed (s since 1970): 2026-11-29.
"""


async def answer(api: Api, route: Route, call: Call) -> Answer:
    """
    Answer a request for a route. An exception from this function is a bug.
    """
    tokens = api.tokens
    try:
        if tokens is not None or route.scope == "admin":
            require_allowed(api, route, call)
            if call.principal.rate is not None:
                require_permit(api, call.principal, take=True)
        if call.query:
            if route.repeated:
                call.many = {name: [] for name in route.repeated}
            call.parameters = parse_query(call.query, route.values, call.many)
        for parameter, segment in zip(route.segments, call.segments, strict=True):
            call.parameters[parameter.name] = decode_segment(segment)
        if tokens is not None and call.principal.prefixes:
            _require_bounds(route, call)
        found = await route.function(api, call)
    except Refusal as refusal:
        # A refusal without an outcome of its own was raised before anything was done.
        found = problem(refusal, outcome="not_applied" if route.changes else None)
    if tokens is not None and found.status != TooManyRequests.status:
        bucket = tokens.bucket(call.principal)
        if bucket is not None:
            found = found.with_headers(bucket.headers())
    return _with_successor(found, route.successor) if route.successor else found


def require_allowed(api: Api, route: Route, call: Call) -> None:
    """
    Refuse a request that may not be made. Its body need not be there.

    :raises Unauthenticated: it must show a token.
    :raises Forbidden: its token does not give the right that it needs.
    """
    if route.scope == "anyone":
        return
    if api.tokens is not None:
        call.principal = principal = identify(api, api.tokens, call)
        require_scope(route.scope, principal, "this")
    elif route.scope == "admin":
        call.principal = _identify_operator(api, call)


def require_permit(api: Api, principal: Principal, *, take: bool) -> None:
    """
    Refuse a request that comes too soon after others of the same identity.

    :param take: whether it counts from now on.
    :raises TooManyRequests: its token permits no more requests now.
    """
    tokens = api.tokens
    bucket = None if tokens is None else tokens.bucket(principal)
    if tokens is None or bucket is None:
        return
    wait_s = tokens.wait_s(principal, take=take)
    if wait_s:
        raise TooManyRequests(principal.name, wait_s=wait_s, headers=bucket.headers())


def identify(api: Api, tokens: Tokens, call: Call) -> Principal:
    """
    The identity that a request proves.

    :raises Unauthenticated: none.
    """
    shown = call.headers.get(b"authorization", ())
    # With two such headers, neither counts.
    if len(shown) != 1:
        raise Unauthenticated(f"send one header 'Authorization: Bearer TOKEN', not {len(shown)}", shown=False)
    found = tokens.find(shown[0])
    if found is None:
        if api.token is not None and call.local and api.token.matches(shown[0]):
            return OPERATOR
        raise Unauthenticated("the header Authorization holds no token that this daemon accepts", shown=True)
    if tokens.is_expired(found):
        raise Unauthenticated(f"the token {found.principal.name!r} has expired", shown=True)
    return found.principal


def _identify_operator(api: Api, call: Call) -> Principal:
    """
    The operator, at a daemon that has no other tokens.

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
    return OPERATOR


def _require_bounds(route: Route, call: Call) -> None:
    """
    Refuse a request whose token is bound to some tenants, unless it keeps to those.

    :raises Forbidden: it names other tenants, or none, or its answer would tell of all.
    """
    named = [call.parameters[name] for name in route.tenants if name in call.parameters]
    named += [each for name in route.tenants for each in call.many.get(name, ())]
    for tenant in named:
        call.require_tenant(tenant)
    if named or route.checks_tenants:
        return
    bound = f"the token {call.principal.name!r} is bound to some tenants"
    if route.tenants:
        raise Forbidden(f"{bound}: give the parameter {' or '.join(route.tenants)}, to say of which you ask")
    raise Forbidden(f"{bound}, and the answer here is about all")


def _with_successor(answer: Answer, path: str) -> Answer:
    """
    Mark an answer's path as deprecated (RFC 9745), and name the path to use instead.
    """
    added = [
        (b"Deprecation", b"@%d" % _DEPRECATED_SINCE),
        (b"Link", b'<%s>; rel="successor-version"' % path.encode()),
    ]
    return answer.with_headers(added)

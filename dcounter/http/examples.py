"""
An example of each route, a request and its answer, for the OpenAPI document and the page `/docs`.

Answers are of the types that the routes answer with, so an example cannot have fields that do not exist.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from dcounter.http import answer_bodies as bodies
from dcounter.http.audit_bodies import AuditResult, AuditsShown
from dcounter.http.refusal_examples import POSITION, STAMP
from dcounter.http.route import Route
from dcounter.stamps import show_stamp
from dcounter.store import ClusterStatus, NodeStatus

_CURSOR: Final = "2bQm0Yx5hGk9wA7cPzT4sVnLAg"
_WHEN: Final = show_stamp(STAMP)
_OPEN: Final = re.compile(r"\\{(\w+)\\}")


class Example(msgspec.Struct, frozen=True):
    """
    A request and its answer.

    :ivar target: the path and the query, percent-encoded.
    :ivar answer: anything that msgspec can encode; a text if the answer is not JSON.
    :ivar body: of the request; empty if it has none.
    :ivar note: what the example shows; empty if that is plain.
    """

    target: str
    answer: Any
    body: str = ""
    note: str = ""


def _stored(items: int, **more: Any) -> bodies.Stored:
    return bodies.Stored("OK", items, "node", POSITION, **more)


_TWO: Final = '[{"ID":1,"tenant":"hello"},{"ID":2,"tenant":"publicsonar"}]'
_CHECKS: Final = (
    bodies.Check("process", ok=True, detail="dcounter 1.0.0 answers"),
    bodies.Check("stopping", ok=True, detail="the daemon is not about to stop"),
    bodies.Check("ready", ok=True, detail="writes are taken, and a primary answers"),
    bodies.Check("exact", ok=False, detail="counts are not exact: they may lack items of nodes 2"),
)
_METRICS: Final = """\
# HELP dcounter_http_requests_total Requests that were answered, by the route that the API has for them.
# TYPE dcounter_http_requests_total counter
dcounter_http_requests_total{code="200",method="POST",route="/items"} 2.0
"""
_NODE: Final = NodeStatus(
    id=0,
    address="127.0.0.1:8090",
    pid=4_242,
    state="up",
    role="primary",
    run="1795953600000000000",
    items=2,
    items_taken=2,
    applied={"0": {"1795953600000000000": 1}},
    durable={"0": {"1795953600000000000": 1}},
    lag=0,
    reported_ms_ago=17,
)
_AUDIT: Final = AuditResult(
    equal=True,
    position=POSITION,
    finished=_WHEN,
    duration_ms=412,
    nodes=(0, 1, 2, 3),
    not_audited=(),
    items=2,
    tombstones=0,
    digest="9f2c41d7a0b35e68",
    counts=(bodies.CountOf("hello", 1),),
)
_EXPORT: Final = (
    f'{{"export":1,"position":"{POSITION}","items":1,"deleted":false}}\n'
    f'{{"ID":1,"tenant":"hello","lastUpdateDt":"{_WHEN}"}}\n'
    '{"end":true,"rows":1}\n'
)
_EVENTS: Final = (
    f'retry: 2000\nevent: hello\ndata: {{"position":"{POSITION}","version":1,"resumed":false,'
    '"tenants":["hello"],"prefixes":null,"nodes":true}\nid: 18ec9049969d45b9-1\n\n'
    'event: count\ndata: {"tenant":"hello","counter":2}\nid: 18ec9049969d45b9-2\n\n'
)
_READY: Final = bodies.Ready(exact=True, missing=(), warnings=())

EXAMPLES: Final[Mapping[tuple[str, str, str], Sequence[Example]]] = {
    ("POST", "/items", "application/json"): (
        Example("/items", _stored(2), _TWO),
        Example(
            "/items?receipt=1",
            _stored(2, receipts=["moved", "deleted"], counts={"hello": 0, "acme": 1, "publicsonar": 0}),
            '[{"ID":1,"tenant":"acme"},{"ID":2,"deleted":true}]',
            "moves an item and deletes another, and is told what that changed",
        ),
    ),
    ("POST", "/items", "application/x-ndjson"): (
        Example(
            "/items",
            bodies.Loaded("OK", 2, 2, "node", POSITION),
            '{"ID":1,"tenant":"hello"}\n{"ID":2,"tenant":"hello"}\n',
            "stores any number of items, one per line",
        ),
    ),
    ("POST", "/items/delete", "application/json"): (Example("/items/delete", _stored(2), "[1,2]"),),
    ("DELETE", "/items/{ID}", "application/json"): (Example("/items/1", _stored(1)),),
    ("GET", "/items/{tenant}/count", "application/json"): (
        Example("/items/hello/count", bodies.Counted(1, "hello", POSITION)),
        Example(
            "/items/hello/count?consistency=available",
            bodies.Counted(1, "hello", POSITION, False, [2]),
            note="settles for the best number that is available, if a node is down",
        ),
    ),
    ("GET", "/items/{ID}", "application/json"): (
        Example("/items/1", bodies.FoundItem(1, "hello", _WHEN, POSITION)),
    ),
    ("POST", "/items/lookup", "application/json"): (
        Example(
            "/items/lookup", bodies.FoundItems([bodies.StoredItem(1, "hello", _WHEN)], [7], POSITION), "[1,7]"
        ),
    ),
    ("POST", "/counts", "application/json"): (
        Example(
            "/counts",
            bodies.CountedMany([bodies.CountOf("hello", 1), bodies.CountOf("nobody", 0)], POSITION),
            '{"tenants":["hello","nobody"]}',
        ),
    ),
    ("GET", "/counts", "application/json"): (
        Example("/counts?prefix=acme/", bodies.CountedPrefix("acme/", 3, 2, POSITION)),
    ),
    ("GET", "/tenants", "application/json"): (
        Example(
            "/tenants?sort=-count&limit=1",
            bodies.ListedTenants([bodies.CountOf("acme/paris", 2)], POSITION, _CURSOR),
        ),
    ),
    ("GET", "/tenants/{tenant}", "application/json"): (
        Example("/tenants/acme%2Fparis", bodies.Counted(2, "acme/paris", POSITION)),
    ),
    ("DELETE", "/tenants/{tenant}", "application/json"): (
        Example("/tenants/acme%2Fparis", bodies.Erased("OK", "acme/paris", 2, _WHEN, "node", POSITION)),
    ),
    ("GET", "/tenants/{tenant}/items", "application/json"): (
        Example(
            "/tenants/acme%2Fparis/items?limit=2",
            bodies.ListedItems("acme/paris", [12, 13], POSITION, _CURSOR),
        ),
    ),
    ("GET", "/stats", "application/json"): (
        Example(
            "/stats", bodies.Statistics(1_000_000, 5_000, 12, 48_000_000, 470_000_000, 61_000_000, POSITION)
        ),
    ),
    ("POST", "/audit", "application/json"): (Example("/audit", _AUDIT, '{"tenants":["hello"]}'),),
    ("GET", "/audit", "application/json"): (Example("/audit", AuditsShown(last=_AUDIT, age_ms=60_000)),),
    ("GET", "/export", "application/json"): (Example("/export", _EXPORT),),
    ("GET", "/events", "application/json"): (Example("/events?tenant=hello", _EVENTS),),
    ("GET", "/cluster", "application/json"): (
        Example("/cluster", ClusterStatus(primary=0, nodes=[_NODE], clock_skew_ms=0, cluster="5f2b1c9e")),
    ),
    ("POST", "/cluster/restart", "application/json"): (
        Example("/cluster/restart", bodies.Operated("OK", 2), '{"node":2}'),
    ),
    ("POST", "/compact", "application/json"): (
        Example("/compact", bodies.Compacted("OK", _WHEN), f'{{"before":"{_WHEN}"}}'),
    ),
    ("POST", "/cluster/remove", "application/json"): (
        Example("/cluster/remove", bodies.Operated("OK", 3), '{"node":3}'),
    ),
    ("POST", "/cluster/forget", "application/json"): (
        Example("/cluster/forget", bodies.Operated("OK", 3), '{"node":3}'),
    ),
    ("GET", "/metrics", "application/json"): (Example("/metrics", _METRICS),),
    ("GET", "/livez", "application/json"): (Example("/livez", bodies.Alive("OK")),),
    ("GET", "/healthz", "application/json"): (
        Example("/healthz", bodies.Alive("OK")),
        Example("/healthz?verbose", bodies.Alive("OK", _CHECKS), note="With what is checked."),
    ),
    ("GET", "/readyz", "application/json"): (Example("/readyz", _READY),),
}
"""
By method, path and content type of the body. The documents themselves, such as `/openapi.json`, have none.
"""


def examples_of(route: Route) -> Sequence[Example]:
    """
    The examples of a route, with the parameters that it has.
    """
    known = {each.name for each in route.query}
    examples = EXAMPLES.get((route.method, route.path, route.content_type), ())
    return [each for each in examples if known.issuperset(dict(parse_qsl(each.target.partition("?")[2])))]


def values_of(route: Route) -> Mapping[str, str]:
    """
    The parameters that the first example of a route gives.
    """
    for each in examples_of(route)[:1]:
        path, _, query = each.target.partition("?")
        pattern = _OPEN.sub(r"(?P<\1>[^/?]+)", re.escape(route.path))
        segments = re.fullmatch(pattern, path)
        assert segments is not None, (route.path, path)
        in_path = {name: unquote(value) for name, value in segments.groupdict().items()}
        return {**in_path, **dict(parse_qsl(query))}
    return {}

"""
The one list of routes. Klein's routes, the short way past Klein and the OpenAPI document are made from it.

A new route is a row here and a function under `dcounter.http.api`.
"""

from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from dcounter.errors import (
    AnswerTooLarge,
    Incomplete,
    InvalidCursor,
    InvalidItems,
    InvalidPosition,
    NoAnswer,
    NodeIsBusy,
    NodeIsUp,
    NotApplied,
    NotReplicated,
    NotSupported,
    NotSupportedHere,
    OutcomeUnknown,
    PositionLost,
    Refusal,
    TooManyItems,
    UnknownNode,
)
from dcounter.http import answer_bodies
from dcounter.http.api import cluster, daemon, events, items, questions
from dcounter.http.auth import Scope
from dcounter.http.bodies import IDS, ITEMS, LINES
from dcounter.http.call import Api, Call
from dcounter.http.decoding import ENCODINGS
from dcounter.http.event_stream import CONTENT_TYPE as CONTENT_TYPE_OF_EVENTS
from dcounter.http.lists import Tenants
from dcounter.http.load_problems import InvalidLine, LoadBroken, LoadStopped
from dcounter.http.loads import CONTENT_TYPE, media_type
from dcounter.http.problems import (
    Answer,
    ExpandsTooMuch,
    NoIdempotencyKey,
    NotReady,
    TooManyWatchers,
    UnknownItem,
)
from dcounter.store import Ack, Capability, ClusterStatus, Consistency, Order

Function = Callable[[Api, Call], Awaitable[Answer]]

Access = Literal["anyone"] | Scope
"""
The right that a request needs. `anyone` and, at a daemon without a file of tokens, `read` and `write`: none.
"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """
    A parameter of a route, in its path or its query.

    :ivar description: for the OpenAPI document.
    :ivar values: the values that it may have; none: any text that is not empty.
    :ivar tenant: whether it is the name of a tenant, or how the names of tenants begin. A token that is bound
        to some tenants must name one of those.
    :ivar repeated: whether it may be given more than once.
    :ivar schema: the JSON schema of its value, if there are no `values`; the function checks it.
    """

    name: str
    description: str
    values: Collection[str] = ()
    tenant: bool = False
    repeated: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"}, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    One method of one path.

    :ivar path: `{name}` matches one segment of percent-encoded UTF-8.
    :ivar function: answers a request, once it is permitted and its parameters are checked.
    :ivar summary: one sentence, for the OpenAPI document.
    :ivar answer: the type of the answer with status 200.
    :ivar answer_in_part: the type of the answer with status 207, if there is one.
    :ivar segments: the variable segments of the path.
    :ivar query: the parameters of the query; others are refused.
    :ivar body: the type of the body, or its JSON schema; `None` if the route takes no body.
    :ivar content_type: the type of the body, as its header names it.
    :ivar by_type: content type -> the route that takes bodies of that type, with the same method and path.
    :ivar encodings: the encodings in which `function` takes the body, besides none.
    :ivar scope: the right that a request needs.
    :ivar checks_tenants: whether `function` keeps a token that is bound to some tenants from learning of
        others, by `Call.require_tenant` or `Principal.may_read`. Where neither it nor a parameter does so,
        such tokens are refused.
    :ivar refusals: what `function` may raise, besides the refusals of every route (`dcounter.http.openapi`).
    :ivar streams_body: whether `function` reads the body while it arrives, however large it is.
    :ivar reads: whether a request changes nothing although its method is not GET.
    :ivar needs: what the store must be able to do; `None` if every store can.
    :ivar answer_type: the type of the answer, as its header names it.
    :ivar vital: whether a request is answered although there are too many connections.
    :ivar successor: the path to use instead, if this one is deprecated.
    :ivar values: parameter of the query -> the values that it may have.
    :ivar tenants: the parameters that name tenants.
    :ivar repeated: the parameters of the query that may be given more than once.
    """

    method: str
    path: str
    function: Function
    summary: str
    answer: Any
    answer_in_part: Any = None
    segments: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: Any = None
    content_type: str = "application/json"
    by_type: Mapping[bytes, "Route"] = field(default_factory=dict)
    encodings: Sequence[str] = ()
    scope: Access
    checks_tenants: bool = False
    refusals: tuple[type[Refusal], ...] = ()
    streams_body: bool = False
    reads: bool = False
    needs: Capability | None = None
    answer_type: str = "application/json"
    vital: bool = False
    successor: str = ""
    values: Mapping[str, Collection[str]] = field(init=False)
    tenants: Collection[str] = field(init=False)
    repeated: Collection[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", {each.name: each.values for each in self.query})
        named = (each.name for each in (*self.segments, *self.query) if each.tenant)
        object.__setattr__(self, "tenants", tuple(named))
        object.__setattr__(self, "repeated", tuple(each.name for each in self.query if each.repeated))
        for other in self.by_type.values():
            if (other.method, other.path, other.scope) != (self.method, self.path, self.scope):
                raise ValueError(f"{self.method} {self.path} must not depend on the type of the body")

    @property
    def changes(self) -> bool:
        """
        Whether a request may change something. A refusal then has to say whether it did.
        """
        return self.method != "GET" and not self.reads

    def of_type(self, headers: Mapping[bytes, Sequence[bytes]]) -> "Route":
        """
        The route for a request with these headers: this one, unless another takes that type of body.
        """
        if b"content-type" not in headers or headers[b"content-type"][0] == b"application/json":
            # Most requests: they need not pay for the others.
            return self
        return self.by_type.get(media_type(headers), self)


_AFTER: Final = Parameter("after", "A position from an earlier answer: this request sees all that it covers.")

_ACK: Final = Parameter("ack", "Which nodes must have written the items before the answer.", get_args(Ack))
_STAMP: Final = Parameter(
    "lastUpdateDt",
    "The stamp of all items that have none of their own: RFC 3339, with up to nine fractional digits. With"
    " it, the request can be repeated without harm.",
)
_RECEIPT: Final = Parameter(
    "receipt",
    "`1`: the answer says what became of each item, and the new counts of the tenants that are touched.",
    ("0", "1"),
)
_PARTIAL: Final = Parameter(
    "partial", "`1`: store what is valid, and list the first mistakes in the rest.", ("0", "1")
)
_STORED_BY: Final = (_ACK, _AFTER, _STAMP, _RECEIPT)
_NOT_STORED: Final = (
    NoIdempotencyKey,
    InvalidPosition,
    PositionLost,
    NotApplied,
    OutcomeUnknown,
    NotReplicated,
    NotSupportedHere,
    TooManyItems,
)

_LOAD: Final = Route(
    method="POST",
    path="/items",
    function=items.load_items,
    summary="Store a load: any number of items, one per line.",
    scope="write",
    answer=answer_bodies.Loaded,
    answer_in_part=answer_bodies.Loaded,
    query=(
        _ACK,
        _AFTER,
        _STAMP,
        _PARTIAL,
    ),
    body=LINES,
    content_type=CONTENT_TYPE.decode(),
    encodings=ENCODINGS,
    streams_body=True,
    refusals=(InvalidLine, LoadStopped, LoadBroken, ExpandsTooMuch, *_NOT_STORED),
)
_CONSISTENCY: Final = Parameter(
    "consistency", "What to answer if the exact answer is not available at once.", get_args(Consistency)
)
_ID: Final = Parameter("ID", "An integer from -2^63 to 2^63 - 1.", schema=IDS["items"])
_TENANT: Final = Parameter("tenant", "Percent-encoded UTF-8; write `/` as `%2F`.", tenant=True)
_PREFIX: Final = Parameter(
    "prefix", "Only tenants whose names begin with this; all if it is left out.", tenant=True
)
_PAGE: Final = (
    Parameter(
        "limit",
        "How many to list, at most. A page may have fewer and not be the last one.",
        schema={"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100},
    ),
    Parameter("cursor", "The `cursor` of the page before. The other parameters must be the same."),
)
_NO_ANSWER: Final = (InvalidPosition, PositionLost, Incomplete)
_NO_OTHER_ANSWER: Final = (*_NO_ANSWER, NotSupportedHere, AnswerTooLarge)
"""
Why there is no count, and why there is no answer to another question.
"""

_REMOVE: Final = Route(
    method="POST",
    path="/cluster/remove",
    function=cluster.remove,
    summary="Remove a node permanently. Only the operator may do this, on the daemon's machine.",
    answer=answer_bodies.Operated,
    body=cluster.OneNode,
    scope="admin",
    refusals=(NotSupported, UnknownNode, NodeIsUp, NotApplied, NoAnswer),
)

ROUTES: Final = (
    Route(
        method="POST",
        path="/items",
        function=items.store_items,
        summary="Store items, and delete items.",
        scope="write",
        answer=answer_bodies.Stored,
        answer_in_part=answer_bodies.Stored,
        query=(*_STORED_BY, _PARTIAL),
        body=ITEMS,
        by_type={CONTENT_TYPE: _LOAD},
        refusals=(InvalidItems, *_NOT_STORED),
    ),
    Route(
        method="POST",
        path="/items/delete",
        function=items.delete_items,
        summary="Delete items. Deleting an ID that is not there is no error.",
        scope="write",
        answer=answer_bodies.Stored,
        query=_STORED_BY,
        body=IDS,
        refusals=(InvalidItems, *_NOT_STORED),
    ),
    Route(
        method="DELETE",
        path="/items/{ID}",
        function=items.delete_item,
        summary="Delete an item. Deleting an ID that is not there is no error.",
        scope="write",
        answer=answer_bodies.Stored,
        segments=(_ID,),
        query=_STORED_BY,
        refusals=_NOT_STORED,
    ),
    Route(
        method="GET",
        path="/items/{tenant}/count",
        function=items.count_items,
        summary="Count a tenant's items.",
        scope="read",
        answer=answer_bodies.Counted,
        segments=(_TENANT,),
        query=(_CONSISTENCY, _AFTER),
        refusals=_NO_ANSWER,
    ),
    Route(
        method="GET",
        path="/items/{ID}",
        function=questions.show_item,
        summary="Show an item.",
        scope="read",
        checks_tenants=True,
        answer=answer_bodies.FoundItem,
        segments=(_ID,),
        query=(_CONSISTENCY, _AFTER),
        needs="look_up",
        refusals=(UnknownItem, *_NO_OTHER_ANSWER),
    ),
    Route(
        method="POST",
        path="/items/lookup",
        function=questions.look_up_items,
        summary="Look up items.",
        scope="read",
        checks_tenants=True,
        answer=answer_bodies.FoundItems,
        query=(_CONSISTENCY, _AFTER),
        body={**IDS, "maxItems": 1_000},
        reads=True,
        needs="look_up",
        refusals=(InvalidItems, TooManyItems, *_NO_OTHER_ANSWER),
    ),
    Route(
        method="POST",
        path="/counts",
        function=questions.count_many,
        summary="Count the items of several tenants, all at the same moment.",
        scope="read",
        checks_tenants=True,
        answer=answer_bodies.CountedMany,
        query=(_CONSISTENCY, _AFTER),
        body=Tenants,
        reads=True,
        needs="count_many",
        refusals=(InvalidItems, TooManyItems, *_NO_OTHER_ANSWER),
    ),
    Route(
        method="GET",
        path="/counts",
        function=questions.count_prefix,
        summary="Count the items of all tenants whose names begin with a prefix.",
        scope="read",
        answer=answer_bodies.CountedPrefix,
        query=(_PREFIX, _CONSISTENCY, _AFTER),
        needs="count_prefix",
        refusals=_NO_OTHER_ANSWER,
    ),
    Route(
        method="GET",
        path="/tenants",
        function=questions.list_tenants,
        summary="List tenants, and how many items each of them owns.",
        scope="read",
        answer=answer_bodies.ListedTenants,
        query=(
            Parameter("sort", "By name as UTF-8, or those that own most first.", get_args(Order)),
            _PREFIX,
            *_PAGE,
            _CONSISTENCY,
            _AFTER,
        ),
        needs="list_tenants",
        refusals=(InvalidCursor, *_NO_OTHER_ANSWER),
    ),
    Route(
        method="GET",
        path="/tenants/{tenant}",
        function=items.count_items,
        summary="Show a tenant: count its items.",
        scope="read",
        answer=answer_bodies.Counted,
        segments=(_TENANT,),
        query=(_CONSISTENCY, _AFTER),
        refusals=_NO_ANSWER,
    ),
    Route(
        method="GET",
        path="/tenants/{tenant}/items",
        function=questions.list_items,
        summary="List the IDs that a tenant owns, in ascending order.",
        scope="read",
        answer=answer_bodies.ListedItems,
        segments=(_TENANT,),
        query=(*_PAGE, _CONSISTENCY, _AFTER),
        needs="list_items",
        refusals=(InvalidCursor, *_NO_OTHER_ANSWER),
    ),
    Route(
        method="GET",
        path="/stats",
        function=questions.statistics,
        summary="Show how much is stored, and what that takes.",
        scope="read",
        answer=answer_bodies.Statistics,
        query=(_CONSISTENCY, _AFTER),
        needs="statistics",
        refusals=_NO_OTHER_ANSWER,
    ),
    Route(
        method="GET",
        path="/events",
        function=events.watch,
        summary="Watch counts change. The answer goes on for as long as the caller stays.",
        scope="read",
        checks_tenants=True,
        answer={"type": "string", "description": "Server-Sent Events."},
        answer_type=CONTENT_TYPE_OF_EVENTS.decode(),
        query=(
            Parameter(
                "tenant",
                "Only events of this tenant; may be given again. All if it is left out.",
                tenant=True,
                repeated=True,
                schema={"type": "array", "items": {"type": "string"}},
            ),
            _PREFIX,
        ),
        needs="watch",
        refusals=(NotSupportedHere, TooManyWatchers),
    ),
    Route(
        method="GET",
        path="/cluster",
        function=cluster.show,
        summary="Show the nodes.",
        scope="read",
        answer=ClusterStatus,
        refusals=(NotSupported,),
    ),
    Route(
        method="POST",
        path="/cluster/restart",
        function=cluster.restart,
        summary="Restart a node. Only the operator may do this, on the daemon's machine.",
        answer=answer_bodies.Operated,
        body=cluster.OneNode,
        scope="admin",
        refusals=(NotSupported, UnknownNode, NodeIsBusy),
    ),
    _REMOVE,
    replace(
        _REMOVE,
        path="/cluster/forget",
        summary="The name of `/cluster/remove` in release 0.1.0.",
        successor=_REMOVE.path,
    ),
    Route(
        method="GET",
        path="/healthz",
        function=daemon.healthz,
        summary="Check that the process is running.",
        scope="anyone",
        answer=answer_bodies.Alive,
        vital=True,
    ),
    Route(
        method="GET",
        path="/readyz",
        function=daemon.readyz,
        summary="Check whether the daemon is ready for requests.",
        scope="anyone",
        answer=answer_bodies.Ready,
        vital=True,
        refusals=(NotReady,),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        function=daemon.openapi,
        summary="This document.",
        scope="anyone",
        answer=dict[str, Any],
    ),
)


def offered(routes: Sequence[Route], capabilities: Container[Capability]) -> Sequence[Route]:
    """
    Those routes that a store with these capabilities can serve.
    """
    return [route for route in routes if route.needs is None or route.needs in capabilities]


def served(routes: Sequence[Route], capabilities: Container[Capability]) -> Sequence[Route]:
    """
    All routes; requests for those that the store cannot serve are refused.
    """
    able = offered(routes, capabilities)
    return [route if route in able else replace(route, function=daemon.not_supported) for route in routes]

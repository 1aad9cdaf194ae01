"""
The one list of routes. Klein's routes, the short way past Klein and the OpenAPI document are made from it.

A new route is a row here and a function under `dcounter.http.api`.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from dcounter.audits import AuditNotFinished, AuditRuns, NotRepaired
from dcounter.compaction_errors import CompactionStopped, StampTooOld
from dcounter.errors import (
    AnswerTooLarge,
    EraseStopped,
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
    TooManyItems,
    UnknownNode,
)
from dcounter.http import answer_bodies
from dcounter.http.api import (
    audit,
    cluster,
    daemon,
    documents,
    erasing,
    events,
    exports,
    items,
    metrics,
    questions,
)
from dcounter.http.audit_bodies import AuditResult, AuditsShown
from dcounter.http.bodies import IDS, ITEMS, LINES
from dcounter.http.decoding import ENCODINGS
from dcounter.http.event_stream import CONTENT_TYPE as CONTENT_TYPE_OF_EVENTS
from dcounter.http.exposition import CONTENT_TYPE as CONTENT_TYPE_OF_METRICS
from dcounter.http.lists import AuditWanted, Tenants
from dcounter.http.load_problems import ExportCutShort, InvalidLine, LoadBroken, LoadStopped
from dcounter.http.loads import CONTENT_TYPE
from dcounter.http.parameters import (
    ACK,
    AFTER,
    ASKED_AT,
    DELETED,
    FILE,
    ID,
    NO_RECEIPT,
    PAGE,
    PARTIAL,
    PREFIX,
    SORT,
    STAMP,
    STAMP_OF_ERASURE,
    STORED_BY,
    TENANT,
    TENANTS,
    VERBOSE,
)
from dcounter.http.problems import (
    ExpandsTooMuch,
    NoIdempotencyKey,
    NotReady,
    Stopping,
    TooManyExports,
    TooManyWatchers,
    UnknownItem,
    UnknownPath,
)
from dcounter.http.route import Parameter, Route
from dcounter.store import Capability, ClusterStatus

_NOT_STORED: Final = (
    NoIdempotencyKey,
    InvalidPosition,
    PositionLost,
    NotApplied,
    OutcomeUnknown,
    NotReplicated,
    NotSupportedHere,
    StampTooOld,
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
    query=(ACK, AFTER, STAMP, NO_RECEIPT, PARTIAL),
    body=LINES,
    content_type=CONTENT_TYPE.decode(),
    encodings=ENCODINGS,
    streams_body=True,
    refusals=(InvalidLine, LoadStopped, LoadBroken, ExportCutShort, ExpandsTooMuch, *_NOT_STORED),
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
        query=(*STORED_BY, PARTIAL),
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
        query=STORED_BY,
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
        segments=(ID,),
        query=STORED_BY,
        refusals=_NOT_STORED,
    ),
    Route(
        method="GET",
        path="/items/{tenant}/count",
        function=items.count_items,
        summary="Count a tenant's items.",
        scope="read",
        answer=answer_bodies.Counted,
        segments=(TENANT,),
        query=ASKED_AT,
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
        segments=(ID,),
        query=ASKED_AT,
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
        query=ASKED_AT,
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
        query=ASKED_AT,
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
        query=(PREFIX, *ASKED_AT),
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
        query=(SORT, PREFIX, *PAGE, *ASKED_AT),
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
        segments=(TENANT,),
        query=ASKED_AT,
        refusals=_NO_ANSWER,
    ),
    Route(
        method="DELETE",
        path="/tenants/{tenant}",
        function=erasing.erase_tenant,
        summary="Delete a tenant with everything that it owns.",
        scope="write",
        answer=answer_bodies.Erased,
        segments=(replace(TENANT, tenant=False),),
        query=(ACK, AFTER, STAMP_OF_ERASURE),
        needs="erase",
        ends_with_caller=True,
        refusals=(
            NoIdempotencyKey,
            InvalidPosition,
            PositionLost,
            NotApplied,
            Incomplete,
            EraseStopped,
            NotReplicated,
            NotSupportedHere,
        ),
    ),
    Route(
        method="GET",
        path="/tenants/{tenant}/items",
        function=questions.list_items,
        summary="List the IDs that a tenant owns, in ascending order.",
        scope="read",
        answer=answer_bodies.ListedItems,
        segments=(TENANT,),
        query=(*PAGE, *ASKED_AT),
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
        query=ASKED_AT,
        needs="statistics",
        refusals=_NO_OTHER_ANSWER,
    ),
    Route(
        method="POST",
        path="/audit",
        function=audit.audit,
        summary="Count everything anew, compare all nodes, and repair a wrong one if that is asked for.",
        scope="admin",
        answer=AuditResult,
        body=AuditWanted,
        needs="audit",
        refusals=(
            InvalidItems,
            TooManyItems,
            AnswerTooLarge,
            NotSupportedHere,
            AuditRuns,
            AuditNotFinished,
            NotRepaired,
            NotSupported,
            UnknownNode,
            NodeIsBusy,
        ),
    ),
    Route(
        method="GET",
        path="/audit",
        function=audit.show,
        summary="Show the last audit, and the one that runs.",
        scope="read",
        answer=AuditsShown,
        needs="audit",
    ),
    Route(
        method="GET",
        path="/export",
        function=exports.export,
        summary="Export everything that is stored, as lines that `POST /items` takes.",
        scope="read",
        checks_tenants=True,
        answer={"type": "string", "description": "Lines of JSON: a header, the items, and an end."},
        answer_type=CONTENT_TYPE.decode(),
        query=(DELETED, *ASKED_AT),
        needs="export",
        refusals=(*_NO_ANSWER, NotSupportedHere, TooManyExports),
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
        query=(TENANTS, PREFIX),
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
    Route(
        method="POST",
        path="/compact",
        function=cluster.compact,
        summary="Forget old deletions. Only the operator may do this, on the daemon's machine.",
        answer=answer_bodies.Compacted,
        body=cluster.Before,
        scope="admin",
        refusals=(NotSupported, NotApplied, CompactionStopped, NotSupportedHere),
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
        path="/metrics",
        function=metrics.show,
        summary="Show what the daemon counts and measures about itself, for Prometheus.",
        scope="read",
        answer={"type": "string", "description": "Text in the exposition format of Prometheus."},
        answer_type=CONTENT_TYPE_OF_METRICS,
    ),
    Route(
        method="GET",
        path="/livez",
        function=daemon.livez,
        summary="Check that the process is running and answers.",
        scope="anyone",
        answer=answer_bodies.Alive,
        query=(VERBOSE,),
        vital=True,
    ),
    Route(
        method="GET",
        path="/healthz",
        function=daemon.healthz,
        summary="Check that the process is running, and is not about to stop.",
        scope="anyone",
        answer=answer_bodies.Alive,
        query=(VERBOSE,),
        vital=True,
        refusals=(Stopping,),
    ),
    Route(
        method="GET",
        path="/readyz",
        function=daemon.readyz,
        summary="Check whether the daemon is ready for requests.",
        scope="anyone",
        answer=answer_bodies.Ready,
        vital=True,
        refusals=(NotReady, Stopping),
    ),
    Route(
        method="GET",
        path="/",
        function=documents.dashboard,
        summary="Show the daemon and its nodes at work: a page for browsers.",
        scope="anyone",
        answer={"type": "string", "description": "A page in HTML, which asks for the files that it needs."},
        answer_type="text/html; charset=utf-8",
        revalidates=True,
    ),
    Route(
        method="GET",
        path="/dashboard/{file}",
        function=documents.dashboard_file,
        summary="Get a file that the page `/` needs.",
        scope="anyone",
        answer={"type": "string", "description": "A script, a style sheet, or a licence."},
        answer_type="*/*",
        segments=(FILE,),
        revalidates=True,
        refusals=(UnknownPath,),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        function=documents.openapi,
        summary="Describe this API for programs: the OpenAPI document.",
        scope="anyone",
        answer=dict[str, Any],
    ),
    Route(
        method="GET",
        path="/docs",
        function=documents.docs,
        summary="Describe this API for people: a page for browsers.",
        scope="anyone",
        answer={"type": "string", "description": "A page in HTML, without scripts."},
        answer_type="text/html; charset=utf-8",
    ),
)


def offered(routes: Iterable[Route], capabilities: Container[Capability]) -> Sequence[Route]:
    """
    Those routes that a store with these capabilities can serve, with the parameters that it can.
    """
    found = []
    for route in routes:
        if _is_able(route, capabilities):
            query = tuple(each for each in route.query if _is_able(each, capabilities))
            others = dict(zip(route.by_type, offered(route.by_type.values(), capabilities), strict=True))
            found.append(replace(route, query=query, by_type=others))
    return found


def served(routes: Iterable[Route], capabilities: Container[Capability]) -> Sequence[Route]:
    """
    All routes; requests for those that the store cannot serve are refused.
    """
    return [
        route if _is_able(route, capabilities) else replace(route, function=daemon.not_supported)
        for route in routes
    ]


def _is_able(what: Route | Parameter, capabilities: Container[Capability]) -> bool:
    return what.needs is None or what.needs in capabilities

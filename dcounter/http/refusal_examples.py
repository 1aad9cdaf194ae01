"""
An example of each refusal, for the OpenAPI document and the page `/docs`.

They are made from the classes and encoded as all refusals are. So they cannot be out of date.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from dcounter.audits import AuditNotFinished, AuditRuns, NotRepaired
from dcounter.compaction_errors import CompactionStopped, StampTooOld
from dcounter.errors import (
    AnswerTooLarge,
    EraseStopped,
    Incomplete,
    InvalidCursor,
    InvalidItems,
    InvalidPosition,
    ItemError,
    MalformedBody,
    NoAnswer,
    NodeIsBusy,
    NodeIsUp,
    NotApplied,
    NotReplicated,
    NotSupported,
    NotSupportedHere,
    Outcome,
    OutcomeUnknown,
    PositionLost,
    Refusal,
    TooManyItems,
    UnknownNode,
)
from dcounter.http.answer_bodies import LineError
from dcounter.http.load_problems import ExportCutShort, InvalidLine, LoadBroken, LoadStopped, SoFar
from dcounter.http.problems import (
    BadParameter,
    BadPath,
    BadRequest,
    BodyTooLarge,
    ExpandsTooMuch,
    Forbidden,
    ForeignOrigin,
    InternalError,
    NoIdempotencyKey,
    NotReady,
    Overloaded,
    RequestTimeout,
    Stopping,
    TooManyExports,
    TooManyRequests,
    TooManyWatchers,
    Unauthenticated,
    UnknownHost,
    UnknownItem,
    UnknownMethod,
    UnknownPath,
    UnsupportedEncoding,
    WrongMethod,
    problem,
)
from dcounter.store import Answered

POSITION: Final = "5rX1kGZ0mVb3tq8sWc2LdpIBAA"
"""
How a position token looks.
"""

STAMP: Final = 1_795_953_600_123_456_789
_LINE: Final = LineError(1_201, "tenant", "is missing")
_NOT_STORED: Final = NotApplied(
    "no node had room for the items in time; nothing of the request was stored", retry_after=1
)

REFUSALS: Final[Sequence[Refusal]] = (
    BadRequest("the request cannot be read: Content-Length must be one number"),
    BadPath("the ID must be an integer from -2^63 to 2^63 - 1"),
    BadParameter("unknown parameter 'akc'; this path has ack, after, lastUpdateDt, receipt, partial"),
    NoIdempotencyKey(),
    LoadBroken(MalformedBody("the body ends in the middle of its gzip data"), SoFar(1_200, 1_201, POSITION)),
    MalformedBody("the body is not JSON: Input data was truncated"),
    InvalidCursor("the cursor is not from an earlier page of this list"),
    InvalidPosition("the position is not of this cluster"),
    Unauthenticated("send one header 'Authorization: Bearer TOKEN', not 0", shown=False),
    Forbidden("this needs the scope 'write', which the token 'dashboard' does not have"),
    ForeignOrigin("https://elsewhere.example"),
    UnknownHost("counter.example"),
    UnknownPath(),
    UnknownItem(7, Answered(position=POSITION)),
    UnknownNode("there is no node 9, only nodes [0, 1, 2, 3]"),
    WrongMethod(["GET", "HEAD"]),
    RequestTimeout("no data arrived for 75 seconds"),
    AuditRuns("an audit is under way, and there is one at a time: see GET /audit"),
    NotRepaired("node 2 differs, but node 3 is not connected, so it cannot be made anew"),
    NodeIsBusy("node 2 is being started"),
    NodeIsUp("node 3 is up: stop it first, so that nothing only it holds is lost"),
    NotSupported("this daemon has no nodes"),
    PositionLost("the position names items of node 3 that no member has any more"),
    AnswerTooLarge("the answer is too large: the names in it are too long; ask for less"),
    BodyTooLarge(16_777_216),
    ExpandsTooMuch("more than 500 times as many bytes come of the body"),
    TooManyItems("the request has 1001 items; with receipt=1 the limit is 1000"),
    UnsupportedEncoding("br", ("gzip", "zstd")),
    InvalidItems([ItemError(1, "ID", "must be an integer from -2^63 to 2^63 - 1")]),
    InvalidLine(SoFar(1_200, 1_201, POSITION, 1, [_LINE])),
    ExportCutShort("its last line is missing", SoFar(1_200, 1_201, POSITION)),
    TooManyRequests("dashboard", wait_s=0.05, headers=()),
    InternalError(),
    NotSupportedHere("no node that could answer this is of release 0.2 or newer"),
    UnknownMethod(),
    EraseStopped(
        "node 2 is not connected", deleted=20_000, position=POSITION, stamp=STAMP, outcome="partial"
    ),
    AuditNotFinished("node 2 started again while it was audited"),
    CompactionStopped("node 2 did not answer", stamp=STAMP),
    StampTooOld(STAMP),
    Incomplete("node 2 is not connected", counter_so_far=41, missing=[2], retry_after=1),
    TooManyExports(4),
    TooManyWatchers(1_000),
    LoadStopped(_NOT_STORED, SoFar(1_200, 1_201, POSITION), "partial"),
    NotReady(exact=False, missing=[2]),
    Stopping(),
    Overloaded("too many connections are open; the limit is 800"),
    _NOT_STORED,
    NotReplicated(
        "all 2 items are stored, but durable at 'node' instead of 'all' within 5 s",
        position=POSITION,
        items=2,
        reached="node",
        stamp=STAMP,
    ),
    OutcomeUnknown(
        "1 of 2 items are known to be stored, of the others nothing is known",
        position=POSITION,
        items_stored=1,
        stamp=STAMP,
    ),
    NoAnswer("no other node answered in time: if GET /cluster still shows node 3, ask again"),
)

_OF_KIND: Final = {type(each): each for each in REFUSALS}


def example_of(kind: type[Refusal], outcome: Outcome | None = None) -> dict[str, Any]:
    """
    The body of an answer with a refusal of this kind.

    :param outcome: the outcome, if the refusal has none of its own.
    """
    found: dict[str, Any] = msgspec.json.decode(problem(_OF_KIND[kind], outcome=outcome).body)
    return found

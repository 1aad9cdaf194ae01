"""
The errors of dcounter, by whose fault they are.

There are errors of the start and of journals, and two families as in h11. `PeerError`: this connection must
end, no other. `Refusal`: an answer to a caller, which says what was wrong, where, and whether anything was
stored.

This module is public (docs/extending.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from dcounter.stamps import show_stamp

Outcome = Literal["not_applied", "unknown", "stored", "partial"]

NOTHING_STORED: Final = "; nothing of the request was stored"
"""
How the text of a refusal ends if the request was to store something. It is not true of a whole load if it is
said of a part.
"""


class DcounterError(Exception):
    """
    The base class of all errors of dcounter.
    """


class ConfigurationError(DcounterError):
    """
    The daemon cannot start with its configuration.
    """


class DirectoryInUse(ConfigurationError):
    """
    Another process uses the directory, perhaps one that is about to end.
    """


class CorruptJournal(DcounterError):
    """
    A journal is damaged in the middle; the node must be rebuilt.
    """


class NewerJournal(DcounterError):
    """
    An intact journal was written by a newer version of dcounter, and this version cannot read all of it.
    """


class PeerError(DcounterError):
    """
    This connection must end: the other end broke the protocol, or may not connect.
    """


class MalformedMessage(PeerError):
    """
    A line was not one of the messages of `dcounter.protocol.messages`.
    """


class UnknownNeeds(MalformedMessage):
    """
    A batch needs additions to the protocol that this version of dcounter does not know.

    :ivar slices: how many slices the batch has.
    """

    def __init__(self, needs: Sequence[str], *, slices: int) -> None:
        super().__init__(f"this version of dcounter does not know what the batch needs: {', '.join(needs)}")
        self.slices = slices


class HandshakeRefused(PeerError):
    """
    The handshake failed: no common version, another cluster, another node, or no shared secret.

    :cvar code: one word for programs, which is sent to the other end.
    """

    code: ClassVar[str] = "refused"


class WrongNode(HandshakeRefused):
    """
    A caller looks for another node. That is normal, because nodes may move from port to port.
    """

    code = "wrong_node"


class SecondHolder(HandshakeRefused):
    """
    Two processes use one node id at the same time.
    """

    code = "second_holder"


class Outcast(HandshakeRefused):
    """
    This process accepts no callers, because all other nodes refuse it: another process holds its node id.
    """

    code = "outcast"


class Removed(HandshakeRefused):
    """
    The node was removed from the cluster.
    """

    code = "removed"


class LinkLost(DcounterError):
    """
    A connection to a node ended before the answer arrived.
    """


class Refusal(DcounterError):
    """
    A request is answered with an error. Each kind is a class that holds everything its answer says.

    :cvar code: the kind of refusal, a stable word for programs.
    :cvar status: the HTTP status of the answer.
    :cvar title: what happened, in a few words.
    :ivar retryable: whether the same request may succeed if it is sent again later. Whether to repeat it is
        harmless is another question: see `outcome`.
    :ivar outcome: what became of a request that changes something: nothing was changed (`not_applied`), that
        is not known (`unknown`), the items are `stored`, though not as requested, or a known part of them is
        stored and the rest is not (`partial`). `None` if this kind of refusal does not tell.
    :ivar retry_after: seconds after which to retry; `None` if that is not known.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    retryable: bool = False
    outcome: Outcome | None = None
    retry_after: float | None = None

    def details(self) -> Mapping[str, object]:
        """
        Further fields of the answer: names in JSON, and values that msgspec can encode.
        """
        return {}


@dataclass(frozen=True, slots=True)
class ItemError:
    """
    What is wrong with one item of a request.

    :ivar index: the item's index in the request, from 0.
    :ivar field: the JSON field, or an empty text if the item as a whole is wrong.
    """

    index: int
    field: str
    message: str


class MalformedBody(Refusal):
    """
    The body is not JSON, or not an array.
    """

    code = "malformed"
    status = 400
    title = "Malformed body"
    outcome = "not_applied"


class InvalidItems(Refusal):
    """
    At least one item of the request is invalid, and nothing of the request is done.

    :param errors: the first mistakes, at most 100.
    :param reads: whether the request would have changed nothing anyway.
    """

    code = "invalid_item"
    status = 422
    title = "Invalid item"
    outcome = "not_applied"

    def __init__(self, errors: Sequence[ItemError], *, reads: bool = False) -> None:
        first = errors[0]
        where = f"item {first.index}" + (f", {first.field}" if first.field else "")
        super().__init__(f"{where}: {first.message}" + ("" if reads else NOTHING_STORED))
        self.errors = tuple(errors)

    def details(self) -> Mapping[str, object]:
        return {"errors": self.errors}


class TooManyItems(Refusal):
    """
    The request has more items than the limit.
    """

    code = "too_many_items"
    status = 413
    title = "Too many items"
    outcome = "not_applied"


class NotApplied(Refusal):
    """
    Nothing was stored or changed; sending the request again is safe.

    :param retry_after: seconds after which to retry.
    """

    code = "unavailable"
    status = 503
    title = "Temporarily unavailable"
    retryable = True
    outcome = "not_applied"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _hint(stamp: int | None) -> str:
    if stamp is None:
        return ""
    return f"; to repeat the request without harm, add lastUpdateDt={show_stamp(stamp)} to its query"


def _shown(stamp: int | None) -> Mapping[str, object]:
    return {} if stamp is None else {"lastUpdateDt": show_stamp(stamp)}


class OutcomeUnknown(Refusal):
    """
    The deadline passed after part of the request was sent: it may be stored wholly, partly or not at all.

    :param position: a token for the part that is known to be stored.
    :param items_stored: how many items that part holds.
    :param stamp: the stamp (ns since 1970) to repeat the request with, for the items that came without one;
        `None` if all came with one.
    """

    code = "deadline"
    status = 504
    title = "Outcome unknown"
    retryable = True
    outcome = "unknown"

    def __init__(self, message: str, *, position: str, items_stored: int, stamp: int | None = None) -> None:
        super().__init__(message + _hint(stamp))
        self.position = position
        self.items_stored = items_stored
        self.stamp = stamp

    def details(self) -> Mapping[str, object]:
        return {"position": self.position, "items_stored": self.items_stored, **_shown(self.stamp)}


class NoAnswer(Refusal):
    """
    No node confirmed the operation in time: it may have been done, or not.
    """

    code = "no_answer"
    status = 504
    title = "No answer from any node"
    retryable = True
    outcome = "unknown"


class NotReplicated(Refusal):
    """
    The items were stored, but before the deadline not on as many nodes as `ack` requested.

    :param reached: the strongest `ack` that was reached.
    :param stamp: the stamp (ns since 1970) to repeat the request with, as in `OutcomeUnknown`.
    """

    code = "ack_not_reached"
    status = 504
    title = "Stored, but not on as many nodes as requested"
    retryable = True
    outcome = "stored"

    def __init__(
        self, message: str, *, position: str, items: int, reached: str, stamp: int | None = None
    ) -> None:
        super().__init__(message + _hint(stamp))
        self.stamp = stamp
        self.position = position
        self.items = items
        self.reached = reached

    def details(self) -> Mapping[str, object]:
        return {
            "position": self.position,
            "items": self.items,
            "reached": self.reached,
            **_shown(self.stamp),
        }


class EraseStopped(Refusal):
    """
    The deletion of a tenant stopped before its end.

    :param why: the reason.
    :param deleted: how many items are deleted for certain.
    :param position: a token for these; `None` if there are none.
    :param stamp: the stamp (ns since 1970) to repeat the request with.
    :param outcome: `partial`; `unknown` if more items may be deleted; `not_applied` if none is.
    """

    code = "erase_stopped"
    status = 503
    title = "Deletion of a tenant stopped"
    retryable = True

    def __init__(self, why: str, *, deleted: int, position: str | None, stamp: int, outcome: Outcome) -> None:
        more = ", perhaps more" if outcome == "unknown" else ""
        super().__init__(
            f"{why}; {deleted} items of the tenant are deleted so far{more}; repeat the request, with"
            f" lastUpdateDt={show_stamp(stamp)} in its query if items that were stored since are to stay"
        )
        self.deleted = deleted
        self.position = position
        self.stamp = stamp
        self.outcome = outcome
        self.retry_after = 1

    def details(self) -> Mapping[str, object]:
        position = {} if self.position is None else {"position": self.position}
        return {"deleted": self.deleted, **position, **_shown(self.stamp)}


class Incomplete(Refusal):
    """
    No reachable node has everything that an exact answer requires.

    :param counter_so_far: the count of the most complete node that answered; `None` if no node answered.
    :param missing: ids of the nodes whose items may be missing from the count.
    """

    code = "incomplete"
    status = 503
    title = "Exact count unavailable"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        counter_so_far: int | None,
        missing: Sequence[int],
        retry_after: float,
    ) -> None:
        super().__init__(message)
        self.counter_so_far = counter_so_far
        self.missing = tuple(missing)
        self.retry_after = retry_after

    def details(self) -> Mapping[str, object]:
        return {"counter_so_far": self.counter_so_far, "missing": self.missing}


class InvalidPosition(Refusal):
    """
    A position token was altered, or was not issued by this cluster.
    """

    code = "position_invalid"
    status = 400
    title = "Unknown position token"


class NodeIsBusy(Refusal):
    """
    A node that is being started or stopped cannot be restarted.
    """

    code = "node_is_busy"
    status = 409
    title = "Node starting or stopping"
    retryable = True


class NodeIsUp(Refusal):
    """
    A connected node cannot be removed.
    """

    code = "node_is_up"
    status = 409
    title = "Node is up"


class PositionLost(Refusal):
    """
    A position token covers items that the cluster has lost permanently.
    """

    code = "position_lost"
    status = 410
    title = "Position covers lost items"


class UnknownNode(Refusal):
    """
    The cluster has no node with this id.
    """

    code = "unknown_node"
    status = 404
    title = "No such node"


class NotSupportedHere(Refusal):
    """
    What this daemon stores items in cannot do this.
    """

    code = "not_supported_here"
    status = 501
    title = "Not supported by this store"


class AnswerBroken(DcounterError):
    """
    An answer that is being sent cannot be completed. Its connection must end, so that the caller notices.
    """


class InvalidCursor(Refusal):
    """
    A cursor was altered, was not issued by this cluster, or belongs to another question.
    """

    code = "cursor_invalid"
    status = 400
    title = "Unknown cursor"


class AnswerTooLarge(Refusal):
    """
    The answer would be larger than a message between nodes may be.
    """

    code = "answer_too_large"
    status = 413
    title = "Answer too large"


class NotSupported(Refusal):
    """
    This daemon cannot do this: it has no nodes, or did not start them.
    """

    code = "not_supported"
    status = 409
    title = "Not supported by this daemon"

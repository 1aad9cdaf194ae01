"""
Everything dcounter refuses, and whose fault it was.

Two families, as in h11: a `PeerError` is the doing of whoever is at the other end of a connection and
costs that connection only; a `Refusal` is an answer to a caller, which says what was wrong, where, and
whether anything was stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Outcome = Literal["not_applied", "unknown", "stored"]


class DcounterError(Exception):
    """
    The root of every error of our own.
    """


class ConfigurationError(DcounterError):
    """
    The daemon was asked to start in a way that cannot work.
    """


class DirectoryInUse(ConfigurationError):
    """
    Another process has the directory, perhaps only for as long as it takes to end.
    """


class CorruptJournal(DcounterError):
    """
    Something in the middle of a journal is not what was written; the node must be made anew.
    """


class NewerJournal(DcounterError):
    """
    A journal holds what this version does not know: it is whole, and a newer version of dcounter wrote it.
    """


class PeerError(DcounterError):
    """
    The other end of a connection broke the protocol; it loses that connection, nobody else loses anything.
    """


class MalformedMessage(PeerError):
    """
    A line was not one of the messages of `dcounter.protocol.messages`.
    """


class UnknownNeeds(MalformedMessage):
    """
    A batch needs what this version of dcounter does not know, and would be misread without it.

    :ivar slices: how many slices it holds.
    """

    def __init__(self, needs: Sequence[str], *, slices: int) -> None:
        super().__init__(f"this version of dcounter does not know what the batch needs: {', '.join(needs)}")
        self.slices = slices


class HandshakeRefused(PeerError):
    """
    The other end is not who it must be: another protocol version, cluster or node, or no shared secret.

    :cvar code: one word for programs, which goes over the wire.
    """

    code: ClassVar[str] = "refused"


class WrongNode(HandshakeRefused):
    """
    A caller looks for another node; that is no fault, nodes may move from port to port.
    """

    code = "wrong_node"


class SecondHolder(HandshakeRefused):
    """
    A node id is used by two processes at once.
    """

    code = "second_holder"


class Outcast(HandshakeRefused):
    """
    No other node lets this process in, since another one holds its node id: what it says counts for nothing.
    """

    code = "outcast"


class Removed(HandshakeRefused):
    """
    The node was removed from the cluster.
    """

    code = "removed"


class LinkLost(DcounterError):
    """
    A connection to a node ended, or was given up, before the answer came.
    """


class Refusal(DcounterError):
    """
    A request that is answered with an error. Each kind is a class, which holds all that its answer says.

    :cvar code: the stable word for programs.
    :cvar status: the HTTP status of the answer.
    :cvar title: what happened, in a few words.
    :ivar outcome: what became of a request that changes something: nothing was changed (`not_applied`),
        that is not known (`unknown`), or the items are `stored`, though not as asked. `None`: it is not for
        this refusal to say.
    :ivar retry_after: seconds after which another try is worth it; `None` if that is not known.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    outcome: Outcome | None = None
    retry_after: float | None = None

    def details(self) -> Mapping[str, object]:
        """
        What the answer has besides text: names of JSON, and values that msgspec can encode.
        """
        return {}


@dataclass(frozen=True, slots=True)
class ItemError:
    """
    What is wrong with one item of a request.

    :ivar index: the item's place in the request, from 0.
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
    At least one item of the request is not an item; nothing of the request was stored.

    :param errors: the first of them, at most 100.
    """

    code = "invalid_item"
    status = 422
    title = "Invalid item"
    outcome = "not_applied"

    def __init__(self, errors: Sequence[ItemError]) -> None:
        first = errors[0]
        where = f"item {first.index}" + (f", {first.field}" if first.field else "")
        super().__init__(f"{where}: {first.message}; nothing of the request was stored")
        self.errors = tuple(errors)

    def details(self) -> Mapping[str, object]:
        return {"errors": self.errors}


class TooManyItems(Refusal):
    """
    The request holds more items than one request may.
    """

    code = "too_many_items"
    status = 413
    title = "Too many items"
    outcome = "not_applied"


class NotApplied(Refusal):
    """
    Nothing of the request was stored; sending it again is safe.

    :param retry_after: seconds after which another try is worth it.
    """

    code = "unavailable"
    status = 503
    title = "Nothing can be stored at present"
    outcome = "not_applied"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutcomeUnknown(Refusal):
    """
    The deadline passed after part of the request was sent: it may be stored wholly, partly or not at all.

    :param position: a token for the part that is known to be stored.
    :param items_stored: how many items that part holds.
    """

    code = "deadline"
    status = 504
    title = "Outcome unknown"
    outcome = "unknown"

    def __init__(self, message: str, *, position: str, items_stored: int) -> None:
        super().__init__(message)
        self.position = position
        self.items_stored = items_stored

    def details(self) -> Mapping[str, object]:
        return {"position": self.position, "items_stored": self.items_stored}


class NoAnswer(Refusal):
    """
    No node said in time that it did what was asked of it: it may be done, or not.
    """

    code = "no_answer"
    status = 504
    title = "No answer from any node"
    outcome = "unknown"


class NotReplicated(Refusal):
    """
    The request is stored, but not on as many nodes as its `ack` asked for, before the deadline.

    :param reached: the widest `ack` that was reached.
    """

    code = "ack_not_reached"
    status = 504
    title = "Stored, but not on as many nodes as requested"
    outcome = "stored"

    def __init__(self, message: str, *, position: str, items: int, reached: str) -> None:
        super().__init__(message)
        self.position = position
        self.items = items
        self.reached = reached

    def details(self) -> Mapping[str, object]:
        return {"position": self.position, "items": self.items, "reached": self.reached}


class Incomplete(Refusal):
    """
    No node that can be reached knows enough to answer exactly.

    :param counter_so_far: the count as the best node that answered has it; `None` if none did.
    :param missing: ids of the nodes whose items cannot be accounted for.
    """

    code = "incomplete"
    status = 503
    title = "No exact count at present"

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
    A position token that this cluster did not give out, or that was altered.
    """

    code = "position_invalid"
    status = 400
    title = "Unknown position token"


class NodeIsBusy(Refusal):
    """
    A node that is being started or stopped is left alone.
    """

    code = "node_is_busy"
    status = 409
    title = "Node starting or stopping"


class NodeIsUp(Refusal):
    """
    A node that is connected is not removed.
    """

    code = "node_is_up"
    status = 409
    title = "Node is up"


class PositionLost(Refusal):
    """
    A position token names items that the cluster has lost for good.
    """

    code = "position_lost"
    status = 410
    title = "Position names lost items"


class UnknownNode(Refusal):
    """
    The cluster has no node of that number.
    """

    code = "unknown_node"
    status = 404
    title = "No such node"


class NotSupported(Refusal):
    """
    This daemon cannot do that: it did not start the nodes, or has none.
    """

    code = "not_supported"
    status = 409
    title = "Not supported by this daemon"

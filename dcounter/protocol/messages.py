"""
The messages of nodes and coordinators: one class each.

The messages form closed unions, one for each phase of a connection; `dcounter.protocol.codec` encodes them as
lines. Decoding and validating are one typed step: whatever bytes arrive, it gives a message that may come in
that phase, or raises `MalformedMessage`. A batch is one raw field: the node that stores it, the followers
that copy it and the journal that keeps it all handle the same bytes, and it is encoded once.
`docs/protocol.md` shows an example of each message.

All are msgspec Structs instead of dataclasses, because the decoder fills those in one step.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from dcounter.protocol import compaction, copies, questions, scraping
from dcounter.protocol.abilities import Abilities
from dcounter.protocol.batch import Milliseconds, Natural, RequestId
from dcounter.protocol.position import LostRun, NodeId, NodePosition, Number, Opening, Position, Stamp
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted
from dcounter.protocol.watching import Changed, Watch

Nonce = Annotated[str, Meta(min_length=32, max_length=128)]
Mark = Annotated[str, Meta(max_length=128)]
Port = Annotated[int, Meta(ge=1, le=65_535)]


# Handshake: Hello ->, <- Challenge, Proof ->, <- Welcome. Either side may say Farewell and hang up.


Role = Literal["node", "coordinator", "probe"]


class Hello(Struct, frozen=True, tag="hello", omit_defaults=True):
    """
    The first line of the caller.

    :ivar protocol: the lowest version that the caller speaks: release 0.1.0 accepts only its own.
    :ivar role: what connected. `node`: a follower. `probe`: a node that only wants to know what listens on a
        port.
    :ivar node: the id of the node that connected; `None` for a coordinator.
    :ivar to: the id of the node that is called.
    :ivar cluster: the cluster id.
    :ivar members: ids of all nodes of the cluster.
    :ivar nonce: random, for the proof.
    :ivar port: the port that it called.
    :ivar boot: the start of the daemon that it belongs to; empty if it runs by itself.
    :ivar instance: the process that holds the node id; empty if the role is not `node`.
    :ivar abilities: what the caller speaks; `None` of release 0.1.0, which speaks `protocol` only.
    """

    protocol: int
    cluster: str
    role: Role
    node: NodeId | None
    to: NodeId
    members: list[NodeId]
    nonce: Nonce
    port: Port
    boot: Mark
    instance: Mark
    abilities: Abilities | None = None


class Challenge(Struct, frozen=True, tag="challenge", omit_defaults=True):
    """
    The node's answer to `Hello`: which node it is, and its proof that it has the secret.

    :ivar instance: the process that holds the node id.
    :ivar abilities: what the node speaks; `None` of release 0.1.0.
    """

    node: NodeId
    run: Stamp
    nonce: Nonce
    instance: Mark
    proof: str
    abilities: Abilities | None = None


class Proof(Struct, frozen=True, tag="proof"):
    """
    The caller's proof that it has the secret.
    """

    proof: str


class Welcome(Struct, frozen=True, tag="welcome"):
    """
    The handshake is over.
    """


class Farewell(Struct, frozen=True, omit_defaults=True, tag="farewell"):
    """
    Why the connection is about to be closed.

    :ivar reason: for people.
    :ivar code: for programs: one word for a handshake that was refused, else empty.
    """

    reason: str
    code: Mark = ""


# Coordinator and node


class Store(Struct, frozen=True, omit_defaults=True, tag="store"):
    """
    Asks to journal and apply a batch; answered by `Stored`.

    :ivar receipt: whether the answer is to say what the batch changed; only to a node that can
        (`abilities.GIVES_RECEIPTS`).
    """

    request: RequestId
    batch: Raw
    receipt: ReceiptWanted | None = None


class Stored(Struct, frozen=True, tag="stored", omit_defaults=True):
    """
    A batch is durable and counted at this node, except for the slices that were refused.

    :ivar run: with `number`, where the batch is in the node's log; both are 0 if all slices were refused.
    :ivar stamp: the largest stamp that the node has observed.
    :ivar refused: slice -> why; nothing of such a slice is stored.
    :ivar doubtful: what is refused was written to a disk that failed. It is not stored, unless the node dies
        before that disk works again.
    :ivar receipt: what the batch changed, if that was asked for.
    """

    request: RequestId
    run: Stamp
    number: Natural
    stamp: Stamp
    refused: dict[Natural, str] = {}
    doubtful: bool = False
    receipt: ReceiptGiven | None = None


class Count(Struct, frozen=True, tag="count", omit_defaults=True):
    """
    Asks how many items each of these tenants owns; answered by `Counted`.

    :ivar required: what the answer must include to be exact.
    :ivar wait: how long (ms) the node may wait until it has that.
    """

    request: RequestId
    tenants: list[str]
    required: Position = Position()
    wait: Milliseconds = 0


class Counted(Struct, frozen=True, tag="counted"):
    """
    The counts, in the order of the question, all at the same moment.

    :ivar complete: whether they include all that was required.
    :ivar position: what they include.
    """

    request: RequestId
    counts: list[Natural]
    complete: bool
    position: Position
    stamp: Stamp


class Await(Struct, frozen=True, tag="await"):
    """
    Asks for an `Awaited` once all of a position is durable at the node, or when the wait (ms) is over.
    """

    request: RequestId
    position: Position
    wait: Milliseconds


class Awaited(Struct, frozen=True, tag="awaited"):
    """
    The answer to an `Await`, or to a `Remove`.

    :ivar reached: whether all that was awaited is durable here.
    :ivar durable: as in a `Report`.
    """

    request: RequestId
    reached: bool
    durable: Position
    stamp: Stamp


class Remove(Struct, frozen=True, tag="forget"):
    """
    Asks to remove a node permanently: it is no longer a member, and its connections are refused.

    Answered by `Awaited`, once that is durable.
    """

    request: RequestId
    node: NodeId


class Beat(Struct, frozen=True, tag="beat"):
    """
    A coordinator's heartbeat.

    :ivar stamp: the largest stamp that it issued or observed.
    """

    stamp: Stamp


class Report(Struct, frozen=True, tag="report", omit_defaults=True):
    """
    A node's heartbeat, on all its connections.

    :ivar node: the node that reports.
    :ivar port: where it listens now; 0 if it does not.
    :ivar run: its open run; 0 if it has none.
    :ivar applied: what its counts include.
    :ivar durable: what it has journalled; nothing while a member refuses it because another process holds its
        id.
    :ivar stamp: the largest stamp that it has observed.
    :ivar items: IDs that have a tenant in its ledger.
    :ivar items_taken: items it stored straight from a coordinator.
    :ivar openings: the openings that it knows of runs that are not folded: node -> openings.
    :ivar lost: what it knows to be lost.
    :ivar removed: members that were removed.
    :ivar refuses: why it takes no writes; `None` if it takes them.
    :ivar passing: the reason in `refuses` passes by itself within seconds.
    :ivar loading: its ledger is not complete yet: it counts nothing exactly, whatever it has applied.
    :ivar in_doubt: it is not certain that all of its own log is on its disk. What may be missing there is not
        in `applied`, and it answers no count.
    :ivar secrets: how many secrets of the cluster it accepts.
    :ivar floor: new items with this stamp or an older one are refused; 0 if there is no such stamp.
    :ivar compacted: its last compaction.
    :ivar tombstones: IDs that are deleted, in its ledger.
    """

    node: NodeId
    port: Annotated[int, Meta(ge=0, le=65_535)]
    pid: Natural
    run: Stamp
    applied: Position
    durable: Position
    stamp: Stamp
    items: Natural
    items_taken: Natural
    openings: dict[NodeId, list[Opening]] = {}
    lost: list[LostRun] = []
    removed: list[NodeId] = field(default_factory=list, name="forgotten")
    refuses: str | None = None
    loading: bool = False
    in_doubt: bool = False
    passing: bool = False
    secrets: Natural = 1
    floor: Stamp = 0
    compacted: compaction.Compacted | None = None
    tombstones: Natural = 0

    @property
    def ledger_sound(self) -> bool:
        """
        Whether the ledger is loaded and not in doubt.
        """
        return not (self.loading or self.in_doubt)


# Node and follower


class Follow(Struct, frozen=True, tag="follow"):
    """
    Asks for a node's log beyond a position, and for more as it comes.
    """

    node: NodeId
    position: NodePosition


class Unfollow(Struct, frozen=True, tag="unfollow"):
    """
    Asks to stop sending a node's log.
    """

    node: NodeId


class Record(Struct, frozen=True, tag="record", omit_defaults=True):
    """
    One batch of a node's log.

    :ivar node: with `run` the origin, whose `number`-th batch it is.
    :ivar stamp: the largest stamp in the batch.
    :ivar opening: with number 1: how the origin announced the run.
    """

    node: NodeId
    run: Stamp
    number: Number
    stamp: Stamp
    batch: Raw
    opening: Opening | None = None


class Gap(Struct, frozen=True, tag="gap"):
    """
    A log no longer reaches back to the follower's position: the follower must take a copy of the ledger.
    """

    node: NodeId


# In journals only


class JournalState(Struct, frozen=True, tag="standing"):
    """
    What a node knows about its own journal; never sent.

    Without it, a node that lost its journal and died again while its peers refilled it would believe that the
    part it got back is all it ever had.

    :ivar known: every member has reported since the journal was empty.
    :ivar wiped: the node had a journal before, and has not opened a run since.
    """

    known: bool
    wiped: bool


# Which messages may come when: a decoder accepts only those of its phase, so no other code has to refuse the
# rest.

HelloFirst = Hello | Farewell
ChallengeNext = Challenge | Farewell
ProofNext = Proof | Farewell
WelcomeLast = Welcome | Farewell
"""
The four steps of a handshake, in order; either end may leave at each.
"""

Request = (
    Store
    | Count
    | questions.Ask
    | Await
    | Remove
    | Watch
    | compaction.SetFloor
    | compaction.Compact
    | scraping.Scrape
)
"""
What a coordinator asks a node.
"""

Reply = Stored | Counted | questions.Told | Awaited | Changed | compaction.Agreed | scraping.Scraped
"""
What a node answers.
"""

REPLIES: Mapping[type[Request], type[Reply]] = {
    Store: Stored,
    Count: Counted,
    questions.Ask: questions.Told,
    Await: Awaited,
    Remove: Awaited,
    Watch: Changed,
    compaction.SetFloor: compaction.Agreed,
    compaction.Compact: compaction.Agreed,
    scraping.Scrape: scraping.Scraped,
}
"""
The reply to each kind of request.
"""

FromCoordinator = Request | questions.Withdraw | Beat
"""
What a coordinator sends to a node after the handshake, until it leaves.
"""

ToCoordinator = Reply | Report
"""
What a node sends to a coordinator after the handshake, until it leaves.
"""

BetweenNodes = (
    Report
    | Follow
    | Unfollow
    | Record
    | Gap
    | copies.Copy
    | copies.CopyBegin
    | copies.CopyChunk
    | copies.CopyEnd
)
"""
What two nodes send to each other after the handshake, whichever of them called, until one leaves.
"""

Message = (
    HelloFirst | ChallengeNext | ProofNext | WelcomeLast | FromCoordinator | ToCoordinator | BetweenNodes
)
"""
Every message between processes.
"""

JournalLine = (
    Record
    | Remove
    | copies.CopyBegin
    | copies.CopyChunk
    | copies.CopyEnd
    | JournalState
    | compaction.SetFloor
    | compaction.Compact
)
"""
Every line of a journal.
"""

"""
What an audit finds: the types of its answers, and what a store needs to have to be audited.

This module is public (docs/extending.md), as `dcounter.store` is.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct

from dcounter.errors import NotSupportedHere, Refusal


class AuditRuns(Refusal):
    """
    An audit is under way, and there is one at a time.
    """

    code = "audit_runs"
    status = 409
    title = "Audit under way"
    retryable = True
    outcome = "not_applied"


class AuditNotFinished(Refusal):
    """
    Something came between, so the nodes could not be compared: nothing is known of differences.

    :param changed: whether a node was made anew before.
    """

    code = "audit_not_finished"
    status = 503
    title = "Audit not finished"
    retryable = True
    retry_after = 5

    def __init__(self, message: str, *, changed: bool = False) -> None:
        super().__init__(message)
        self.outcome = "partial" if changed else "not_applied"


class NotRepaired(Refusal):
    """
    An audit found a difference, but making a node anew is impossible, or would not help.

    :param changed: whether another node was made anew before.
    """

    code = "not_repaired"
    status = 409
    title = "Difference found, but not repaired"

    def __init__(self, message: str, *, changed: bool = False) -> None:
        super().__init__(message)
        self.outcome = "partial" if changed else "not_applied"


class NodeCount(Struct, frozen=True):
    """
    The count of a tenant at one node.

    :ivar node: the node's id.
    :ivar kept: what the node answers when it is asked for the count.
    :ivar counted: how many rows it has.
    """

    node: int
    kept: int
    counted: int


class WrongTenant(Struct, frozen=True):
    """
    A tenant whose count is wrong somewhere.

    :ivar tenant: `None`: the number of deleted IDs.
    :ivar right: the right count; `None` if that cannot be told.
    :ivar nodes: the counts at all nodes that were audited.
    :ivar wrong: the nodes where it is wrong.
    """

    tenant: str | None
    right: int | None
    nodes: Sequence[NodeCount]
    wrong: Sequence[int]


class Row(Struct, frozen=True):
    """
    What a node has for an ID.

    :ivar tenant: `None` if the ID is deleted.
    :ivar stamp: its `lastUpdateDt` (ns since 1970); `None` if the node does not know the ID.
    """

    tenant: str | None
    stamp: int | None


class NodeRow(Struct, frozen=True):
    """
    What one node has for an ID.
    """

    node: int
    row: Row


class WrongItem(Struct, frozen=True):
    """
    An ID for which nodes have different rows.

    :ivar right: what more than half of the nodes have; if no row is that frequent, the newest.
    :ivar decided: whether more than half of the nodes have it.
    :ivar nodes: the rows of all nodes that were audited.
    :ivar wrong: the nodes with other rows than that; none if it is not decided.
    """

    id: int
    right: Row
    decided: bool
    nodes: Sequence[NodeRow]
    wrong: Sequence[int]


class NotAudited(Struct, frozen=True):
    """
    A member that did not take part in an audit.

    :ivar node: its id.
    :ivar why: why it did not, in a few words.
    """

    node: int
    why: str


class Differences(Struct, frozen=True):
    """
    What is wrong.

    :ivar wrong_nodes: the nodes that are known to be wrong.
    :ivar undecided: whether nodes have different rows and none of these is that of more than half of them.
    :ivar tenants: the first tenants with wrong counts.
    :ivar all_tenants: how many there are, at least.
    :ivar items: the first IDs with different rows.
    :ivar all_items: how many there are, at least.
    :ivar more: whether there are more than these numbers say.
    """

    wrong_nodes: Sequence[int]
    undecided: bool
    tenants: Sequence[WrongTenant]
    all_tenants: int
    items: Sequence[WrongItem]
    all_items: int
    more: bool


class Audited(Struct, frozen=True, kw_only=True):
    """
    The result of an audit.

    :ivar position: where the nodes were compared, as a token.
    :ivar nodes: the nodes that were compared.
    :ivar not_audited: the other members.
    :ivar items: how many IDs have a tenant.
    :ivar tombstones: how many IDs are deleted.
    :ivar digest: equal for equal items and tombstones.
    :ivar counts: of the tenants that the caller named: their counts, as recounted.
    :ivar differences: what is wrong; `None` if nothing is.
    :ivar finished: when it was finished (ns since 1970).
    :ivar duration_s: how long it took.
    :ivar repaired: the nodes that were made anew before.
    """

    position: str
    nodes: Sequence[int]
    not_audited: Sequence[NotAudited]
    items: int
    tombstones: int
    digest: str
    counts: Sequence[tuple[str, int]]
    differences: Differences | None
    finished: int
    duration_s: float
    repaired: Sequence[int] = ()


Phase = Literal["counting", "comparing", "repairing", "waiting"]
"""
What an audit does: nodes count their rows; they are compared; a node is made anew; something came between,
and it begins anew soon.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """
    An audit that runs.

    :ivar share: of the rows, how many are counted (0 to 1).
    :ivar running_s: since when it runs.
    """

    phase: Phase
    share: float
    running_s: float


@dataclass(frozen=True, slots=True)
class AuditState:
    """
    The audits of a store.

    :ivar running: the one that runs.
    :ivar last: the result of the last one that was finished.
    :ivar age_s: how long ago it was finished.
    :ivar failure: why the last one was not finished; `None` if it was.
    """

    running: Progress | None
    last: Audited | None
    age_s: float | None
    failure: str | None


Rebuild = Callable[[int], Awaitable[None]]
"""
Makes a node anew from the others.
"""


class Auditable(Protocol):
    """
    The part of a store that proves that its counts are right.
    """

    async def audit(self, tenants: Sequence[str] = (), rebuild: Rebuild | None = None) -> Audited:
        """
        Recount all items, and compare all copies of them.

        :param tenants: these tenants' counts are part of the result.
        :param rebuild: makes a node anew that is found to be wrong; then everything is audited again.
        :raises AuditRuns: one is under way.
        :raises AuditNotFinished: something came between; nothing is known.
        :raises NotRepaired: a difference was found, and making a node anew is impossible or would not help.
        """
        raise NotSupportedHere("this store cannot be audited")

    def audits(self) -> AuditState:
        """
        The audit that runs, and the last one.
        """
        raise NotSupportedHere("this store cannot be audited")

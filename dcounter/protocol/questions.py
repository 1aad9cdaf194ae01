"""
The questions that a coordinator asks a node with `Ask`, and the answers that `Told` brings.

Counts are older and have messages of their own (`dcounter.protocol.messages`).

Each question is a Struct with a tag of its own and has an answer with the same tag. A new kind of question
needs a feature of its own (`dcounter.protocol.abilities`), because an older node closes the connection when
it gets what it does not know.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from dcounter.protocol.batch import LONG, Int64, Milliseconds, Natural, RequestId, Tenant
from dcounter.protocol.exports import Export, Exported
from dcounter.protocol.position import Position, Stamp

Listed = Annotated[int, Meta(ge=1, le=10_000)]
Bits = Annotated[int, Meta(ge=0, le=16)]


class LookUp(Struct, frozen=True, tag="look_up"):
    """
    Asks which tenant owns each of these IDs, and since when.
    """

    ids: Annotated[list[Int64], Meta(max_length=10_000)]


class LookedUp(Struct, frozen=True, tag="look_up"):
    """
    The owners, in the order of the question, all at the same moment.

    :ivar stamps: the stamp of the winning entry of each ID; 0 if it was never stored.
    :ivar tenants: the owner of each ID; `None` if it was never stored or was deleted.
    """

    stamps: list[Stamp]
    tenants: list[Tenant | None]


class ListTenants(Struct, frozen=True, tag="tenants", omit_defaults=True):
    """
    Asks for a page of tenants.

    :ivar order: by `name`, compared as UTF-8 bytes; or by `count`, the largest first, and equal ones by name.
    :ivar limit: how many, at most.
    :ivar prefix: only tenants whose names begin with this.
    :ivar after: the name of the last tenant on the page before; empty if there is none.
    :ivar count: by count: how many items that tenant owned.
    """

    order: Literal["name", "count"]
    limit: Listed
    prefix: str = ""
    after: str = ""
    count: Natural = 0


class TenantsListed(Struct, frozen=True, tag="tenants"):
    """
    The page.

    :ivar counts: how many items each of them owns.
    :ivar more: whether others follow.
    """

    tenants: list[Tenant]
    counts: list[Natural]
    more: bool


class SumPrefix(Struct, frozen=True, tag="sum"):
    """
    Asks how many items the tenants whose names begin with a prefix own together.
    """

    prefix: str


class PrefixSummed(Struct, frozen=True, tag="sum"):
    """
    The sum.

    :ivar tenants: how many such tenants there are.
    """

    items: Natural
    tenants: Natural


class ListItems(Struct, frozen=True, tag="items", omit_defaults=True):
    """
    Asks for a page of the IDs that a tenant owns, in ascending order.

    :ivar after: only larger IDs.
    """

    tenant: str
    limit: Listed
    after: Int64 | None = None


class ItemsListed(Struct, frozen=True, tag="items"):
    """
    The page.

    :ivar after: after which ID the next page begins; `None` if there is none.
    """

    ids: list[Int64]
    after: Int64 | None


class ListOwned(Struct, frozen=True, tag="owned", omit_defaults=True):
    """
    Asks for some of the entries that name a tenant, in an order of the node's own.

    Only to a node with the feature `owned`.

    :ivar until: only entries with this stamp or an older one.
    :ivar limit: how many, at most.
    :ivar begin: where in its order the node begins, as the answer before said. It is a hint: the order of
        another node, or after a compaction, is another one.
    """

    tenant: str
    until: Stamp
    limit: Listed
    begin: Natural = 0


class OwnedListed(Struct, frozen=True, tag="owned"):
    """
    The entries, as columns of little-endian numbers, in base64 in JSON. There may be fewer than the limit.

    :ivar ids: 8 bytes per entry.
    :ivar stamps: 8 bytes per entry.
    :ivar next: where the next answer begins; `None` if the node has come to the end of its order.
    """

    ids: bytes
    stamps: bytes
    next: Natural | None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.stamps) or len(self.ids) % 8:
            raise ValueError("columns of entries differ in length")

    @classmethod
    def of(cls, ids: NDArray[np.int64], stamps: NDArray[np.int64], following: int | None) -> "OwnedListed":
        """
        Make an answer.
        """
        return cls(ids.astype(LONG).tobytes(), stamps.astype(LONG).tobytes(), following)

    def columns(self) -> tuple[list[int], list[int]]:
        """
        IDs and stamps.
        """
        return np.frombuffer(self.ids, LONG).tolist(), np.frombuffer(self.stamps, LONG).tolist()


class Measure(Struct, frozen=True, tag="measure"):
    """
    Asks how much the node holds.
    """


class Measured(Struct, frozen=True, tag="measure"):
    """
    How much the node holds.

    :ivar items: IDs that a tenant owns.
    :ivar tenants: tenants that own items.
    :ivar tombstones: IDs that are deleted.
    :ivar memory: bytes of its ledger.
    :ivar memory_of_ten: about how many bytes ten times as much would take.
    :ivar disk: bytes of its journal.
    """

    items: Natural
    tenants: Natural
    tombstones: Natural
    memory: Natural
    memory_of_ten: Natural
    disk: Natural


class AuditCount(Struct, frozen=True, tag="audit_count", omit_defaults=True):
    """
    Asks to recount some rows; repeated until all are counted.

    From then on the node counts those that change. This and the questions below need the feature `audit`.

    :ivar anew: begin an audit, in place of an earlier one of this coordinator.
    :ivar hold: if all are counted, end the recount, and remember what the rows are at this moment. From then
        on the node can tell what they are at a later position, although others were applied as well.
    :ivar floor: tombstones at or below this stamp are not compared: some nodes may have dropped them.
    """

    anew: bool = False
    hold: bool = False
    floor: Stamp | None = None


class WrongCount(Struct, frozen=True):
    """
    A count that is not what the rows of the same node give.

    :ivar tenant: `None`: the number of deleted IDs.
    :ivar kept: the count that callers are told.
    :ivar counted: how many rows there are.
    """

    tenant: Tenant | None
    kept: int
    counted: int


class AuditCounted(Struct, frozen=True, tag="audit_count", omit_defaults=True):
    """
    How far the recount is.

    :ivar rows: how many there are.
    :ivar held: whether the rows of this moment are remembered. What follows is of that moment.
    :ivar wrong: the first counts that are wrong.
    :ivar all_wrong: how many are.
    """

    counted: Natural
    rows: Natural
    held: bool = False
    wrong: list[WrongCount] = []
    all_wrong: Natural = 0


class AuditCompare(Struct, frozen=True, tag="audit_compare"):
    """
    Asks for digests of the rows at the required position, and at no other. So it is in what follows.

    :ivar bits: IDs are in 2 to the power of this many groups, by a hash of theirs.
    """

    bits: Bits


class AuditCompared(Struct, frozen=True, tag="audit_compare"):
    """
    The digests.

    :ivar items: how many IDs a tenant owns.
    :ivar tombstones: how many IDs are deleted, including those at or below the floor.
    :ivar sums: the digest of each group, 8 bytes each, little-endian.
    """

    items: int
    tombstones: int
    sums: bytes


class AuditRows(Struct, frozen=True, tag="audit_rows"):
    """
    Asks for all rows in some of these groups.
    """

    bits: Bits
    groups: Annotated[list[Annotated[int, Meta(ge=0, lt=65_536)]], Meta(max_length=1_000)]


class AuditRowsFound(Struct, frozen=True, tag="audit_rows"):
    """
    The rows, as columns, in ascending order of ID.
    """

    ids: list[Int64]
    stamps: list[Stamp]
    tenants: list[Tenant | None]


class AuditTenants(Struct, frozen=True, tag="audit_tenants"):
    """
    Asks for the counts of some tenants; `None` stands for deleted IDs.
    """

    tenants: Annotated[list[Tenant | None], Meta(max_length=10_000)]


class AuditTenantsFound(Struct, frozen=True, tag="audit_tenants"):
    """
    The counts, in the order of the question.

    :ivar kept: what callers are told.
    :ivar counted: how many rows there are.
    """

    kept: list[int]
    counted: list[int]


class AuditEnd(Struct, frozen=True, tag="audit_end"):
    """
    Ends the audit.
    """


class AuditEnded(Struct, frozen=True, tag="audit_end"):
    """
    It has ended.
    """


class Declined(Struct, frozen=True, tag="declined"):
    """
    There is no answer.

    :ivar why: `late`: the time of the question was over before the answer was complete, or the question was
        withdrawn. `too_large`: the answer would not fit a message. `busy`: the node has too many questions.
        `failed`: the node made a mistake, and has logged it. `renumbered`: rows of the ledger have other
        numbers now. The others are about audits. `taken`: another coordinator has one. `closed`: there is
        none any more. `disturbed`: the rows at that position cannot be told, because the node took a copy or
        compacted meanwhile. `too_many_writes`: because there were too many writes.
    """

    why: Literal[
        "late", "too_large", "busy", "failed", "renumbered", "taken", "closed", "disturbed", "too_many_writes"
    ]


AuditQuestion = AuditCount | AuditCompare | AuditRows | AuditTenants | AuditEnd
"""
The questions of an audit. They are answered one after the other, and only to the coordinator that began it.
"""

Question = LookUp | ListTenants | SumPrefix | ListItems | Measure | ListOwned | Export | AuditQuestion
"""
What a coordinator may ask.
"""

AuditAnswer = AuditCounted | AuditCompared | AuditRowsFound | AuditTenantsFound | AuditEnded

Answer = (
    LookedUp
    | TenantsListed
    | PrefixSummed
    | ItemsListed
    | Measured
    | OwnedListed
    | Exported
    | AuditAnswer
    | Declined
)
"""
What a node may answer.
"""

ANSWERS: Mapping[type[Question], type[Answer]] = {
    LookUp: LookedUp,
    ListTenants: TenantsListed,
    SumPrefix: PrefixSummed,
    ListItems: ItemsListed,
    Measure: Measured,
    ListOwned: OwnedListed,
    Export: Exported,
    AuditCount: AuditCounted,
    AuditCompare: AuditCompared,
    AuditRows: AuditRowsFound,
    AuditTenants: AuditTenantsFound,
    AuditEnd: AuditEnded,
}
"""
The answer to each kind of question; any question can be declined.
"""


class Ask(Struct, frozen=True, tag="ask", omit_defaults=True):
    """
    Asks anything but counts; answered by `Told`. It is sent only to a node with the feature `ask`.

    :ivar required: what the answer must include to be exact.
    :ivar wait: how long (ms) the node may wait until it has that.
    """

    request: RequestId
    what: Question
    required: Position = Position()
    wait: Milliseconds = 0


class Withdraw(Struct, frozen=True, tag="withdraw"):
    """
    Ends the time of an `Ask`, because nobody waits for the answer any more.
    """

    request: RequestId


class Told(Struct, frozen=True, tag="told"):
    """
    The answer to an `Ask`, as at one moment.

    :ivar complete: whether it includes all that was required.
    :ivar position: what it includes.
    """

    request: RequestId
    what: Answer
    complete: bool
    position: Position
    stamp: Stamp

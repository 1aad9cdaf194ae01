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


class Declined(Struct, frozen=True, tag="declined"):
    """
    There is no answer.

    :ivar why: `late`: the time of the question was over before the answer was complete, or the question was
        withdrawn. `too_large`: the answer would not fit a message. `busy`: the node has too many questions.
        `failed`: the node made a mistake, and has logged it. `renumbered`: rows of the ledger have other
        numbers now.
    """

    why: Literal["late", "too_large", "busy", "failed", "renumbered"]


Question = LookUp | ListTenants | SumPrefix | ListItems | Measure | ListOwned | Export
"""
What a coordinator may ask.
"""

Answer = LookedUp | TenantsListed | PrefixSummed | ItemsListed | Measured | OwnedListed | Exported | Declined
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

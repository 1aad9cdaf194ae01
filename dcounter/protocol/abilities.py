"""
What one end of a connection can speak, and what two ends speak with each other.
"""

from collections.abc import Set as AbstractSet
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

LOWEST_PROTOCOL = 2
PROTOCOL = 2
"""
The lowest and the highest version of the messages that this version of dcounter speaks.

Version 2 is that of release 0.1.0.
"""

REFUSES_UNKNOWN_NEEDS = "needs"
"""
The feature of an end that refuses batches and copies whose `needs` it does not know (`batch.NEEDS`).
"""

GIVES_RECEIPTS = "receipt"
"""
The feature of a node that tells what a batch changed, if `Store` asks for it.
"""

ANSWERS_QUESTIONS = "ask"
"""
The feature of a node that answers the message `ask` with every kind of question of `questions.Question`, but
for those that have features of their own, and takes `withdraw`.
"""

LISTS_OWNED = "owned"
"""
The feature of a node that answers `questions.ListOwned`.
"""

GIVES_EXPORTS = "export"
"""
The feature of a node that answers the question `exports.Export`.
"""

AUDITS = "audit"
"""
The feature of a node that takes part in audits.
"""

WATCHES = "watch"
"""
The feature of a node that tells whose counts change (`watching.Watch`).
"""

COMPACTS = "compact"
"""
The feature of a node that understands `compaction.SetFloor` and `compaction.Compact`.
"""

SCRAPES = "scrape"
"""
The feature of a node that tells its figures (`scraping.Scrape`).
"""

Version = Annotated[int, Meta(ge=1, le=65_535)]
# These and a thousand members fit into the longest line before the handshake is over.
Features = Annotated[list[Annotated[str, Meta(min_length=1, max_length=32)]], Meta(max_length=32)]


class Abilities(Struct, frozen=True):
    """
    What one end of a connection can speak.

    :ivar lowest: the lowest version of the protocol.
    :ivar highest: the highest one.
    :ivar features: names of what it can do beyond that; an end ignores names that it does not know.
    """

    lowest: Version
    highest: Version
    features: Features = []

    def __post_init__(self) -> None:
        if self.lowest > self.highest:
            raise ValueError("the lowest protocol is above the highest")

    def __str__(self) -> str:
        return f"{self.lowest} to {self.highest}" if self.lowest < self.highest else f"{self.lowest}"


ABILITIES = Abilities(
    LOWEST_PROTOCOL,
    PROTOCOL,
    [
        REFUSES_UNKNOWN_NEEDS,
        GIVES_RECEIPTS,
        ANSWERS_QUESTIONS,
        LISTS_OWNED,
        GIVES_EXPORTS,
        AUDITS,
        WATCHES,
        COMPACTS,
        SCRAPES,
    ],
)
"""
What this version of dcounter speaks.
"""


class Common(NamedTuple):
    """
    What two ends speak with each other.

    :ivar protocol: the version of the protocol.
    :ivar features: what both can do beyond that.
    """

    protocol: int
    features: AbstractSet[str]


def in_common(one: Abilities, other: Abilities) -> Common | None:
    """
    The highest common version and the common features; `None` if there is no common version.
    """
    highest = min(one.highest, other.highest)
    if highest < max(one.lowest, other.lowest):
        return None
    return Common(highest, frozenset(one.features).intersection(other.features))

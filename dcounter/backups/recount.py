"""
Proves a backup: restores it in memory, counts everything anew, and compares that with what the backup says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dcounter.backups.form import Damaged, End, Head
from dcounter.backups.parsing import parse
from dcounter.backups.reading import Reading, Section
from dcounter.ledger.ledger import Ledger

_MASK: Final = 2**64 - 1


@dataclass(frozen=True)
class Recount:
    """
    What a whole backup holds.

    :ivar items: how many IDs have a tenant.
    :ivar tombstones: how many IDs are deleted.
    :ivar digest: that of an audit.
    :ivar counts: how many items each tenant owns.
    """

    head: Head
    end: End
    items: int
    tombstones: int
    digest: str
    counts: Mapping[str, int]


def recount(reading: Reading, ledger: Ledger, passed: Callable[[Section], object]) -> Recount:
    """
    Restore a backup into an empty ledger, and audit that.

    :param passed: is told of each section that is in the ledger.
    :raises Damaged: the backup is not what was written, or does not hold what it says.
    """
    for section in reading:
        ledger.merge_rows(parse(section.lines, section.first))
        passed(section)
    end = reading.end
    assert end is not None
    audit = ledger.audit()
    for _ in audit.steps():
        pass
    assert not audit.wrong()
    digest = f"{int(audit.sums.sum()) & _MASK:016x}"
    counts = dict(ledger.tenants())
    found = Recount(reading.head, end, len(ledger), ledger.known - len(ledger), digest, counts)
    audit.close()
    _compare(found, compared=reading.is_backup)
    return found


def _compare(found: Recount, *, compared: bool) -> None:
    end = found.end
    if found.items + found.tombstones != end.rows:
        raise Damaged(
            f"has {end.rows:,} lines with items, and only {found.items + found.tombstones:,} different IDs"
        )
    told = (end.items, end.tombstones, end.tenants, end.digest)
    counted = (found.items, found.tombstones, len(found.counts), found.digest)
    if compared and told != counted:
        raise Damaged(
            f"tells of {end.items:,} items of {end.tenants:,} tenants and {end.tombstones:,} deleted IDs with"
            f" the digest {end.digest}, and a recount gives {found.items:,} items of {len(found.counts):,}"
            f" tenants and {found.tombstones:,} deleted IDs with the digest {found.digest}"
        )

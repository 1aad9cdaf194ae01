"""
What a merge changed, entry by entry.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Change(StrEnum):
    """
    What became of an entry.

    :cvar CREATED: nobody owned the ID before.
    :cvar MOVED: another tenant owned it.
    :cvar UNCHANGED: the same tenant owned it, or nobody did and nobody does: the stamp may be newer.
    :cvar STALE: an entry that is known is newer.
    :cvar DELETED: a tenant owned it, and nobody does now.
    """

    CREATED = "created"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    STALE = "stale"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What a merge changed.

    :ivar changes: one per entry, in order; each as if those before it were merged already.
    :ivar counts: of all tenants that the entries name or took items from, when all were merged.
    """

    changes: list[Change]
    counts: dict[str, int]


Known = tuple[int, str | None]
"""
Stamp and tenant of an entry.
"""


def changes(
    entries: Iterable[tuple[int, int, str | None]], known: dict[int, Known], touched: set[str | None]
) -> list[Change]:
    """
    What becomes of entries (ID, stamp, tenant) that are merged one after the other.

    :param known: the entries of these IDs before; they become those after.
    :param touched: tenants that entries name or take items from are added to it.
    """
    found = []
    for item, stamp, tenant in entries:
        touched.add(tenant)
        before = known.get(item)
        if before is None:
            known[item] = stamp, tenant
            found.append(Change.UNCHANGED if tenant is None else Change.CREATED)
            continue
        old, owner = before
        if stamp < old or (stamp == old and (tenant or "") < (owner or "")):
            found.append(Change.STALE)
            continue
        known[item] = stamp, tenant
        if tenant == owner:
            found.append(Change.UNCHANGED)
        elif tenant is None:
            touched.add(owner)
            found.append(Change.DELETED)
        elif owner is None:
            found.append(Change.CREATED)
        else:
            touched.add(owner)
            found.append(Change.MOVED)
    return found

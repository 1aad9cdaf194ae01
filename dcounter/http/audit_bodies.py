"""
The answers of audits.

This module is public (docs/extending.md), as `dcounter.http.answer_bodies` is.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from dcounter.audits import Audited as Found
from dcounter.audits import AuditState, NodeCount, NotAudited, Phase, Row, WrongItem, WrongTenant
from dcounter.http.answer_bodies import CountOf
from dcounter.stamps import show_stamp


class HeldRow(Struct, frozen=True):
    """
    What is known of an ID.

    :ivar state: `stored`, `deleted`, or `unknown`: never heard of.
    :ivar tenant: left out unless it is stored.
    :ivar lastUpdateDt: left out if it is unknown.
    """

    state: Literal["stored", "deleted", "unknown"]
    tenant: str | UnsetType = UNSET
    lastUpdateDt: str | UnsetType = UNSET


class RowAt(Struct, frozen=True):
    """
    What a node has for an ID.

    :ivar node: the node's id.
    :ivar row: what it has.
    """

    node: int
    row: HeldRow


class ItemDifference(Struct, frozen=True):
    """
    An ID for which nodes have different rows.

    :ivar ID: the ID.
    :ivar right: what more than half of the nodes have; if no row is that frequent, the newest.
    :ivar decided: whether more than half of the nodes have it.
    :ivar nodes: what each node has that was audited.
    :ivar wrong: ids of the nodes that have something else; none if it is not decided.
    """

    ID: int
    right: HeldRow
    decided: bool
    nodes: Sequence[RowAt]
    wrong: Sequence[int]


class CountDifference(Struct, frozen=True):
    """
    A tenant whose count is wrong somewhere.

    :ivar tenant: `null`: the number of deleted IDs.
    :ivar right: the right count; `null` if that cannot be told.
    :ivar nodes: for each node the count that it tells callers (`kept`), and how many rows it has (`counted`).
    :ivar wrong: ids of the nodes where it is wrong.
    """

    tenant: str | None
    right: int | None
    nodes: Sequence[NodeCount]
    wrong: Sequence[int]


class Different(Struct, frozen=True):
    """
    What an audit found to be wrong.

    :ivar wrong_nodes: ids of the nodes that are known to be wrong.
    :ivar undecided: whether it cannot be told of some rows which nodes are wrong.
    :ivar counts: the first 100 tenants whose counts are wrong.
    :ivar all_counts: how many there are.
    :ivar items: the first 100 IDs that differ.
    :ivar all_items: how many there are.
    :ivar more: whether there are more than these numbers say.
    """

    wrong_nodes: Sequence[int]
    undecided: bool
    counts: Sequence[CountDifference]
    all_counts: int
    items: Sequence[ItemDifference]
    all_items: int
    more: bool


class AuditResult(Struct, frozen=True):
    """
    The result of an audit.

    :ivar equal: whether all nodes that were audited have the same rows, and counts that fit them.
    :ivar position: where they were compared; a later read with it as `after` sees at least as much.
    :ivar finished: when it was finished (RFC 3339).
    :ivar duration_ms: how long it took.
    :ivar nodes: ids of the nodes that were audited.
    :ivar not_audited: the other members, and why.
    :ivar items: how many IDs a tenant owns.
    :ivar tombstones: how many IDs are deleted.
    :ivar digest: the same for the same items and tombstones.
    :ivar counts: of the tenants that the request named, counted anew; left out if it named none.
    :ivar differences: what is wrong; left out if nothing is.
    :ivar repaired: ids of the nodes that were made anew before; left out if none was.
    """

    equal: bool
    position: str
    finished: str
    duration_ms: int
    nodes: Sequence[int]
    not_audited: Sequence[NotAudited]
    items: int
    tombstones: int
    digest: str
    counts: Sequence[CountOf] | UnsetType = UNSET
    differences: Different | UnsetType = UNSET
    repaired: Sequence[int] | UnsetType = UNSET


class RunningAudit(Struct, frozen=True):
    """
    An audit that runs.

    :ivar phase: what it does at present. `waiting`: something came between, and it begins anew soon.
    :ivar counted: which part of all rows is counted, from 0 to 1.
    :ivar running_ms: since when it runs.
    """

    phase: Phase
    counted: float
    running_ms: int


class AuditsShown(Struct, frozen=True):
    """
    The audits of this daemon since it started.

    :ivar running: the one that runs; left out if none does.
    :ivar last: the last one that was finished; left out if none was.
    :ivar age_ms: how long ago that was.
    :ivar failure: why the last one was not finished or not repaired; left out if it was.
    """

    running: RunningAudit | UnsetType = UNSET
    last: AuditResult | UnsetType = UNSET
    age_ms: int | UnsetType = UNSET
    failure: str | UnsetType = UNSET


def shown(found: Found) -> AuditResult:
    """
    A result as callers read it.
    """
    differences: Different | UnsetType = UNSET
    if found.differences is not None:
        wrong = found.differences
        differences = Different(
            wrong.wrong_nodes,
            wrong.undecided,
            [_count(each) for each in wrong.tenants],
            wrong.all_tenants,
            [_item(each) for each in wrong.items],
            wrong.all_items,
            wrong.more,
        )
    counts = [CountOf(tenant, counter) for tenant, counter in found.counts]
    return AuditResult(
        equal=found.differences is None,
        position=found.position,
        finished=show_stamp(found.finished),
        duration_ms=round(1000 * found.duration_s),
        nodes=found.nodes,
        not_audited=found.not_audited,
        items=found.items,
        tombstones=found.tombstones,
        digest=found.digest,
        counts=counts or UNSET,
        differences=differences,
        repaired=found.repaired or UNSET,
    )


def all_shown(state: AuditState) -> AuditsShown:
    """
    The audits of a store as callers read them.
    """
    running: RunningAudit | UnsetType = UNSET
    if state.running is not None:
        now = state.running
        running = RunningAudit(now.phase, round(now.share, 3), round(1000 * now.running_s))
    return AuditsShown(
        running,
        UNSET if state.last is None else shown(state.last),
        UNSET if state.age_s is None else round(1000 * state.age_s),
        state.failure or UNSET,
    )


def _count(wrong: WrongTenant) -> CountDifference:
    return CountDifference(wrong.tenant, wrong.right, wrong.nodes, wrong.wrong)


def _item(wrong: WrongItem) -> ItemDifference:
    nodes = [RowAt(each.node, _row(each.row)) for each in wrong.nodes]
    return ItemDifference(wrong.id, _row(wrong.right), wrong.decided, nodes, wrong.wrong)


def _row(row: Row) -> HeldRow:
    if row.stamp is None:
        return HeldRow("unknown")
    at = show_stamp(row.stamp)
    return HeldRow("deleted", UNSET, at) if row.tenant is None else HeldRow("stored", row.tenant, at)

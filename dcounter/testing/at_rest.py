"""
What must hold when nothing fails and all requests are answered.
"""

from collections import Counter

from dcounter.coordinator.service import Coordinator
from dcounter.errors import (
    Refusal,
)
from dcounter.testing.asked import GROWING
from dcounter.testing.history import History
from dcounter.testing.requests import Row


def equal(history: History) -> bool:
    """
    Whether all nodes have the same, durably.
    """
    nodes = history.cluster.nodes
    if nodes.keys() != set(history.members):
        return False
    replicas = [each.replica for each in nodes.values()]
    first = replicas[0]
    return all(
        not each.contents.loading
        and each.compaction.settled
        and each.applied.covers(first.applied)
        and first.applied.covers(each.applied)
        and each.durable.covers(each.applied)
        and each.ledger.digest() == first.ledger.digest()
        for each in replicas
    )


def sees_all_nodes(coordinator: Coordinator) -> bool:
    """
    Whether a coordinator is connected with all nodes.
    """
    return all(node.state == "up" for node in coordinator.status().nodes)


def check_ledger(history: History) -> None:
    """
    Whether what nodes hold at rest is what was stored.
    """
    ledger = next(iter(history.cluster.nodes.values())).replica.ledger
    tried: dict[int, set[Row]] = {}
    for write in history.writes:
        for item, row in (write.rows or {}).items():
            have = history.row_of(ledger, item)
            if write.acked is not None and item not in write.at_risk and have < row:
                history.problem(
                    f"write {write.place} was acknowledged, but of ID {item} {have} is there, not {row}"
                )
        for item, row in write.all_rows:
            if not write.void:
                tried.setdefault(item, set()).add(row)
    owned: Counter[str | None] = Counter()
    for chunk in ledger.chunks(1_000):
        for item, stamp, tenant in chunk.entries():
            owned[tenant] += 1
            if (stamp, tenant or "") not in tried.get(item, set()):
                history.problem(f"nobody stored ID {item} for {tenant!r} at {stamp}")
    if dict(ledger.tenants()) != {tenant: number for tenant, number in owned.items() if tenant}:
        history.problem(f"a recount gives {owned}")


def watchers_at_rest(history: History) -> list[str]:
    """
    What callers that watch do not know, or know wrongly, of what nodes hold at rest.
    """
    ledger = next(iter(history.cluster.nodes.values())).replica.ledger
    found = []
    for watcher in history.watchers:
        if not watcher.sure:
            found.append(f"at rest a {watcher} does not know all counts")
        for tenant, counter in sorted(watcher.believed.items()):
            count = ledger.count(tenant)
            if counter != count:
                found.append(f"at rest a {watcher} believes that {tenant!r} owns {counter}, not {count}")
    return found


def check_counts(history: History, coordinator: Coordinator) -> None:
    """
    Whether a coordinator counts what nodes hold at rest, and knows which members were removed.
    """
    shown = [node.id for node in coordinator.status().nodes]
    if shown != history.members:
        history.problem(f"at rest a coordinator takes nodes {shown} for members, not {history.members}")
    ledger = next(iter(history.cluster.nodes.values())).replica.ledger
    for tenant in sorted(
        {tenant for write in history.writes for tenant in write.items.tenants if tenant} | {GROWING}
    ):
        try:
            count = history.cluster.result(coordinator.count(tenant, consistency="exact"))
        except Refusal as error:
            history.problem(f"at rest a count is refused: {error!r}")
        else:
            if count.counter != ledger.count(tenant):
                history.problem(f"{tenant!r} counts {count.counter} instead of {ledger.count(tenant)}")


def check_audit(history: History, coordinator: Coordinator) -> None:
    """
    Whether an audit can be finished, and finds what nodes hold at rest.
    """
    ledger = next(iter(history.cluster.nodes.values())).replica.ledger
    try:
        found = history.cluster.result(coordinator.audit())
    except Refusal as error:
        history.problem(f"at rest an audit is refused: {error!r}")
        return
    history.audited += 1
    if found.differences is not None or list(found.nodes) != history.members:
        history.problem(f"at rest an audit finds {found}")
    if (found.items, found.items + found.tombstones) != (len(ledger), ledger.known):
        history.problem(f"at rest an audit counts {found.items} items and {found.tombstones} tombstones")

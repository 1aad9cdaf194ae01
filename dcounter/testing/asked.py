"""
The questions of the callers of a cluster, and their answers: all requests that change nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dcounter.audits import Audited, AuditNotFinished, AuditRuns
from dcounter.coordinator.service import Coordinator
from dcounter.errors import AnswerBroken, Incomplete, InvalidCursor, InvalidPosition, PositionLost
from dcounter.stamps import parse_stamp
from dcounter.store import Consistency, Count, Counts, Export, ItemPage, Looked, Order, TenantPage
from dcounter.testing.checks import Check
from dcounter.testing.cluster import Cluster
from dcounter.testing.requests import Asked, Known, Row, TenantsPage, Write

_LONGEST_AUDIT = 300.0
"""
Time (s) after which an audit has ended, however often it began anew.
"""

GROWING = "growing"
"""
A tenant whose items are never moved: its exact counts never go back.
"""


_EXPORT_S = 60.0
"""
Time (s) in which an export ends: callers pause, and nodes freeze, but not for as long as that.
"""


class Questions(ABC):
    """
    All that the callers of one cluster asked without changing anything.

    :param lossy: nodes have no disks, and some die.
    :ivar writes: what they asked to store.
    :ivar known: coordinator -> what its exact answers have to include.
    :ivar tokens: positions that were given out, and what an answer after each has to include.
    :ivar exact: exact answers.
    :ivar audited: audits that were finished.
    :ivar floors: the stamps of all compactions that were asked for.
    :ivar tenant_pages: pages of tenants that others follow.
    """

    def __init__(self, cluster: Cluster, *, lossy: bool) -> None:
        self.cluster = cluster
        self.lossy = lossy
        self.writes: list[Write] = []
        self.known: dict[Coordinator, Known] = {}
        self.tokens: list[tuple[str, Known]] = []
        self.exact = 0
        self.audited = 0
        self.floors: list[int] = []
        self.tenant_pages: list[TenantsPage] = []

    @property
    def forgotten(self) -> int:
        """
        The largest stamp at or below which deletions may be forgotten.
        """
        return max(self.floors, default=0)

    @property
    def now(self) -> float:
        return self.cluster.clock.seconds()

    @abstractmethod
    def note(self, text: str) -> None:
        """
        Add a line to the story.
        """

    @abstractmethod
    def problem(self, text: str) -> None:
        """
        Record something that cannot be true.
        """

    @abstractmethod
    def failed(self, why: Failure) -> None:
        """
        Record an error that no caller may get.
        """

    @abstractmethod
    def _start(self, answer: Deferred[Any], coordinator: Coordinator, limit: float, what: str) -> None:
        """
        Note that a request is under way.

        :param limit: time (s) in which it must be answered.
        """

    def count(
        self,
        coordinator: Coordinator,
        tenant: str,
        consistency: Consistency,
        after: tuple[str, Known] | None,
    ) -> Deferred[Any]:
        """
        Ask for a count.
        """
        what = coordinator.count(tenant, consistency=consistency, after=after and after[0])
        return self._ask("count", what, self._asked(coordinator, consistency, after), self._counted, tenant)

    def count_many(
        self,
        coordinator: Coordinator,
        tenants: Sequence[str],
        consistency: Consistency,
        after: tuple[str, Known] | None,
    ) -> Deferred[Any]:
        """
        Ask for several counts.
        """
        what = coordinator.count_many(tenants, consistency=consistency, after=after and after[0])
        asked = self._asked(coordinator, consistency, after)
        return self._ask("counts", what, asked, self._counted_many, tenants)

    def look_up(
        self,
        coordinator: Coordinator,
        ids: Sequence[int],
        consistency: Consistency,
        after: tuple[str, Known] | None,
    ) -> Deferred[Any]:
        """
        Look up items.
        """
        what = coordinator.look_up(ids, consistency=consistency, after=after and after[0])
        return self._ask("look-up", what, self._asked(coordinator, consistency, after), self._looked, ids)

    def list_tenants(
        self,
        coordinator: Coordinator,
        order: Order,
        limit: int,
        page: TenantsPage | None,
        consistency: Consistency,
        after: tuple[str, Known] | None,
    ) -> Deferred[Any]:
        """
        List tenants.

        :param page: the page before.
        """
        what = coordinator.list_tenants(
            order=order,
            limit=limit,
            cursor=None if page is None else page.cursor,
            consistency=consistency,
            after=after and after[0],
        )
        asked = self._asked(coordinator, consistency, after)
        if page is not None:
            asked.carried = [*asked.carried, page.position]
        return self._ask("list", what, asked, self._listed_tenants, (order, page))

    def list_items(
        self,
        coordinator: Coordinator,
        tenant: str,
        limit: int,
        consistency: Consistency,
        after: tuple[str, Known] | None,
    ) -> Deferred[Any]:
        """
        List the first IDs that a tenant owns.
        """
        what = coordinator.list_items(tenant, limit=limit, consistency=consistency, after=after and after[0])
        asked = self._asked(coordinator, consistency, after)
        return self._ask("list of items", what, asked, self._listed_items, tenant)

    def export(
        self,
        coordinator: Coordinator,
        deleted: bool,
        pause: float,
        consistency: Consistency,
        after: tuple[str, Known] | None,
    ) -> Deferred[Any]:
        """
        Export everything.

        :param pause: time (s) that the caller takes for each piece.
        """
        what = self._read_export(coordinator, deleted, pause, consistency, after and after[0])
        asked = self._asked(coordinator, consistency, after)
        return self._ask("export", what, asked, self._exported, deleted, limit=_EXPORT_S)

    async def _read_export(
        self,
        coordinator: Coordinator,
        deleted: bool,
        pause: float,
        consistency: Consistency,
        after: str | None,
    ) -> tuple[Export, dict[int, Row]]:
        export = await coordinator.export(deleted=deleted, consistency=consistency, after=after)
        rows: dict[int, Row] = {}
        async for piece in export.pieces:
            for line in piece.lines.splitlines():
                item = msgspec.json.decode(line)
                if item["ID"] in rows:
                    self.problem(f"ID {item['ID']} is exported twice")
                rows[item["ID"]] = parse_stamp(item["lastUpdateDt"]), item.get("tenant", "")
            try:
                await deferLater(self.cluster.clock, pause)
            except CancelledError:
                await export.pieces.aclose()
                raise
        return export, rows

    def _exported(self, found: tuple[Export, dict[int, Row]], asked: Asked, deleted: bool) -> None:
        export, rows = found
        check = self._exact(asked, complete=export.complete, text=f"exported {len(rows)} rows")
        if check is not None:
            self._report(check.export(rows, deleted=deleted))
            self.tokens.append((export.position, Known(asked.must.writes)))

    def audit(self, coordinator: Coordinator, tenants: Sequence[str]) -> Deferred[Any]:
        """
        Audit the nodes, and count the items of tenants anew.
        """
        asked = self._asked(coordinator, "exact", None)
        answer = Deferred.fromCoroutine(coordinator.audit(tenants))
        self._start(answer, coordinator, _LONGEST_AUDIT, f"an audit asked for at {self.now:.3f}")
        answer.addCallbacks(self._audited, self._not_audited, (asked,), {}, (), {})
        answer.addErrback(self.failed)
        return answer

    def _audited(self, found: Audited, asked: Asked) -> None:
        self.audited += 1
        self.note(f"audited nodes {found.nodes}: {found.differences or dict(found.counts)}")
        if found.differences is not None:
            self.problem(f"an audit found a difference: {found.differences}")
        if found.not_audited:
            # What only another member has is in no count.
            return
        check = self._exact(asked, complete=True, text=f"recounted {found.counts}")
        if check is not None:
            for each in found.counts:
                self._check_count(check, asked, *each)

    def _not_audited(self, why: Failure) -> None:
        why.trap(AuditNotFinished, AuditRuns, CancelledError)
        self.note(f"not audited: {why.value!r}")

    def _asked(
        self, coordinator: Coordinator, consistency: Consistency, after: tuple[str, Known] | None
    ) -> Asked:
        must = self.known[coordinator]
        if after is None:
            return Asked(coordinator, consistency, must)
        return Asked(coordinator, consistency, must.join(after[1]), [after[0]])

    def _ask(
        self,
        word: str,
        what: Coroutine[Any, Any, Any],
        asked: Asked,
        answered: Callable[[Any, Asked, Any], None],
        words: object,
        *,
        limit: float | None = None,
    ) -> Deferred[Any]:
        """
        Ask a question.

        :param answered: checks the answer.
        :param words: what was asked for.
        :param limit: time (s) in which it must be answered, if it is not that of a count.
        """
        told = f"{asked.consistency} {word} asked at {self.now:.3f}"
        answer = Deferred.fromCoroutine(what)
        self._start(answer, asked.coordinator, limit or self.cluster.limits.read_wait_s, told)
        answer.addCallbacks(answered, self._not_counted, (asked, words), {}, (asked,), {})
        answer.addErrback(self.failed)
        return answer

    def _exact(self, asked: Asked, *, complete: bool, text: str) -> Check | None:
        """
        What an answer has to be compared with; `None` if it may be wrong.

        :param text: what it says.
        """
        if asked.consistency == "eventual" or not complete:
            return None
        self.note(text)
        self.exact += 1
        told_lost = bool(asked.coordinator.status().lost)
        if told_lost and not self.lossy:
            self.problem("a coordinator takes a run for lost")
        return Check(self.writes, asked.must, told_lost, self.forgotten)

    def _counted(self, count: Count, asked: Asked, tenant: str) -> None:
        check = self._exact(asked, complete=count.complete, text=f"counted {tenant!r}: {count.counter}")
        if check is not None:
            floor = self._check_count(check, asked, tenant, count.counter)
            self.tokens.append((count.position, Known(asked.must.writes, floor)))

    def _counted_many(self, counts: Counts, asked: Asked, tenants: Sequence[str]) -> None:
        counted = dict(zip(tenants, counts.counters, strict=True))
        check = self._exact(asked, complete=counts.complete, text=f"counted {counted}")
        if check is not None:
            floors = [self._check_count(check, asked, *each) for each in counted.items()]
            self.tokens.append((counts.position, Known(asked.must.writes, max(floors))))

    def _check_count(self, check: Check, asked: Asked, tenant: str, counter: int) -> int:
        """
        Check an exact count.

        :returns: how many items the growing tenant has, for one that sees as much.
        """
        self._report(check.count(tenant, counter))
        if tenant != GROWING:
            return 0
        if counter < asked.must.floor and not check.told_lost:
            self.problem(f"{counter} items of {GROWING!r} after {asked.must.floor} were counted")
        known = self.known[asked.coordinator]
        if check.told_lost:
            self.known[asked.coordinator] = Known(known.writes, counter)
        else:
            self.known[asked.coordinator] = known.join(Known([], counter))
        return 0 if self.lossy else counter

    def _looked(self, looked: Looked, asked: Asked, ids: Sequence[int]) -> None:
        found = dict(zip(ids, looked.items, strict=True))
        check = self._exact(asked, complete=looked.complete, text=f"looked up {found}")
        if check is None:
            return
        for each in found.items():
            self._report(check.item(*each))
        shown = {item: (each.stamp, each.tenant) for item, each in found.items() if each is not None}
        known = self.known[asked.coordinator]
        if check.told_lost:
            self.known[asked.coordinator] = Known(known.writes, known.floor, shown)
        else:
            self.known[asked.coordinator] = known.join(Known([], 0, shown))
        self.tokens.append((looked.position, Known(asked.must.writes, 0, {} if self.lossy else shown)))

    def _listed_tenants(
        self, found: TenantPage, asked: Asked, words: tuple[Order, TenantsPage | None]
    ) -> None:
        order, before = words
        text = f"listed by {order}: {found.tenants}"
        check = self._exact(asked, complete=found.complete, text=text)
        if check is None:
            return
        self._report(check.tenants(order, found.tenants, before, more=found.cursor is not None))
        for each in found.tenants:
            self._check_count(check, asked, *each)
        if found.cursor is not None:
            self.tenant_pages.append(TenantsPage(order, found.cursor, found.tenants[-1], found.position))
        self.tokens.append((found.position, Known(asked.must.writes)))

    def _listed_items(self, found: ItemPage, asked: Asked, tenant: str) -> None:
        text = f"listed items of {tenant!r}: {found.ids}"
        check = self._exact(asked, complete=found.complete, text=text)
        if check is not None:
            self._report(check.ids(tenant, found.ids, more=found.cursor is not None))
            self.tokens.append((found.position, Known(asked.must.writes)))

    def _report(self, problems: Iterable[str]) -> None:
        for problem in problems:
            self.problem(problem)

    def _not_counted(self, why: Failure, asked: Asked) -> None:
        why.trap(Incomplete, InvalidCursor, InvalidPosition, PositionLost, AnswerBroken, CancelledError)
        self.note(f"not counted: {why.value!r}")
        seal = self.cluster.seal_of(asked.coordinator)
        if why.check(InvalidCursor, InvalidPosition) and not asked.is_out_of_date(seal):
            self.problem(f"what the cluster gave out was refused: {why.getErrorMessage()}")
        self._lost_position(why)

    def _lost_position(self, why: Failure) -> None:
        if why.check(PositionLost) and not self.lossy:
            self.problem(f"a position was lost although nothing was: {why.getErrorMessage()}")

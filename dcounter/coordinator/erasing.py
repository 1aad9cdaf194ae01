"""
Deletes a tenant with everything that it owns.

The request gets a stamp. Then nodes are asked, page by page, for entries that name the tenant and have that
stamp or an older one, and for each a tombstone is stored like any other deletion. Its stamp is one tick after
that of the entry: a later one could win over a move to another tenant that the node does not know yet.

It ends when a node that has all that is required finds nothing in one look at everything.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dcounter.coordinator.acks import Acks
from dcounter.coordinator.dispatch import Dispatch
from dcounter.coordinator.requests import Request
from dcounter.coordinator.stamping import StampedItems
from dcounter.errors import EraseStopped, NotApplied, NotReplicated, Outcome, Refusal
from dcounter.limits import Limits
from dcounter.protocol import questions
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.position import Position
from dcounter.protocol.token import TokenSeal
from dcounter.stamps import show_stamp
from dcounter.store import Ack, Erased, Items

_PAGES: Final = 3
"""
Pages whose tombstones are under way at once: while nodes store one, the next one is asked for.
"""

_WALKS: Final = 100
"""
Walks over all entries. The second one finds nothing, unless callers store items with old stamps meanwhile, or
another node answers.
"""


class _Reply(Protocol):
    what: Any
    position: str


class _Page:
    """
    Entries whose tombstones are under way.
    """

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.stored: Deferred[None] = Deferred()


class _Stopped(Exception):
    """
    The deletion ends early.
    """


class Erasing:
    """
    The deletions of tenants at a coordinator.

    :param ask: asks a node that has all that is required, and what a position token covers.
    :param stamped: gives items their stamps.
    :param running: whether the coordinator takes requests.
    :param floor: gives the stamp up to which nodes take no new items.
    :param compacted: gives the stamp up to which every node has all items.
    :ivar page_items: entries that are asked for, and deleted, at once.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        acks: Acks,
        *,
        ask: Callable[..., Awaitable[_Reply]],
        stamped: Callable[[Items, HybridClock], StampedItems],
        clock: HybridClock,
        seal: TokenSeal,
        limits: Limits,
        time: IReactorTime,
        running: Callable[[], bool],
        floor: Callable[[], int],
        compacted: Callable[[], int],
    ) -> None:
        self._dispatch = dispatch
        self._acks = acks
        self.ask = ask
        self.page_items = limits.erase_items
        self._stamped = stamped
        self._clock = clock
        self._seal = seal
        self._limits = limits
        self._time = time
        self.running = running
        self._floor = floor
        self._compacted = compacted
        self._under_way = 0
        self._room = DeferredSemaphore(limits.erasures)
        # Two at once would delete the same items, and both count them.
        self._turns: WeakValueDictionary[str, DeferredLock] = WeakValueDictionary()

    @property
    def busy(self) -> bool:
        """
        Whether one has not ended.
        """
        return self._under_way > 0

    async def erase(self, tenant: str, ack: Ack, after: str | None, stamp: int | None) -> Erased:
        """
        Delete what a tenant owns.

        :param stamp: that of an earlier attempt; `None`: now.
        :raises EraseStopped: it ended early, perhaps with a part of the items deleted.
        """
        # A tombstone may need the stamp after this one, too.
        stamp = self._clock.take(2) if stamp is None else stamp
        self._clock.observe(stamp + 1)
        self._under_way += 1
        try:
            return await self._in_turn(_Erasure(self, tenant, stamp, after), tenant, ack)
        finally:
            self._under_way -= 1

    async def _in_turn(self, erasure: "_Erasure", tenant: str, ack: Ack) -> Erased:
        turn = self._turns.setdefault(tenant, DeferredLock())
        await turn.acquire()
        try:
            await self._room.acquire()
            try:
                return await erasure.run(ack)
            finally:
                self._room.release()
        finally:
            turn.release()

    async def requests_before(self) -> None:
        """
        Wait until the requests are answered that have their stamps already.
        """
        before = self._dispatch.requests()
        while any(not each.over for each in before):
            await deferLater(self._time, self._limits.heartbeat_s / 4)

    def store(self, ids: list[int], stamps: list[int], ended: Callable[[Request], None]) -> None:
        """
        Store tombstones right after these entries.

        :raises NotApplied: too many requests are waiting, or a compaction is between its steps.
        """
        floor = self._floor()
        if floor > self._compacted() and min(stamps) < floor:
            # A tombstone above the floor would win over newer items below it that are still on their way.
            raise NotApplied(
                f"a compaction up to {show_stamp(floor)} has begun; if it was stopped, repeat it",
                retry_after=1,
            )
        items = Items(ids, [None] * len(ids), [max(each, floor) + 1 for each in stamps])
        columns = self._stamped(items, self._clock)
        self._dispatch.admit(Request(columns, self._time.seconds() + self._limits.request_s, ended))

    async def reach(self, position: str, ack: Ack, erased: int, stamp: int) -> None:
        """
        Wait until a position is durable as the caller asked.

        :raises NotReplicated: it is not in time.
        """
        limit = self._limits.request_s
        reached = await self._acks.wait(self._seal.open(position)[0], ack, self._time.seconds() + limit)
        if reached != ack:
            raise NotReplicated(
                f"all {erased} items are deleted, but durable at '{reached}' instead of '{ack}'"
                f" within {limit:g} s",
                position=position,
                items=erased,
                reached=reached,
                stamp=stamp,
            )

    def token(self, position: Position) -> str:
        """
        A token of a position.
        """
        return self._seal.seal(position, self._clock.last)


class _Erasure:
    """
    One such deletion.
    """

    def __init__(self, all_of_them: Erasing, tenant: str, stamp: int, after: str | None) -> None:
        self._all = all_of_them
        self._tenant = tenant
        self._stamp = stamp
        self._after = after
        self._pages: deque[_Page] = deque()
        self._position = Position()
        self._deleted = 0
        self._doubtful = False
        # Why a page could not be stored.
        self._unstored: str | None = None

    async def run(self, ack: Ack) -> Erased:
        """
        Delete all of it.

        :raises Refusal: it ended early; what is known to be deleted is told.
        """
        await self._all.requests_before()
        why: str
        cause: Refusal | None = None
        try:
            position = await self._walk_until_nothing_is_left()
        except _Stopped as stopped:
            why = str(stopped)
        except Refusal as refusal:
            why, cause = str(refusal), refusal
        else:
            await self._all.reach(position, ack, self._deleted, self._stamp)
            return Erased(self._deleted, self._stamp, ack, position)
        await self._settle()
        raise self._refusal(why, cause) from cause

    async def _walk_until_nothing_is_left(self) -> str:
        """
        Delete all entries.

        :returns: a token of what was there when there was nothing more to delete.
        """
        for _ in range(_WALKS):
            answer, position = await self._ask(0)
            if not answer.ids and answer.next is None:
                return position
            await self._delete(*answer.columns())
            while answer.next is not None:
                answer, _ = await self._ask(answer.next)
                await self._delete(*answer.columns())
            await self._settle()
        raise _Stopped(f"items with older stamps are stored all the time: {_WALKS} walks found some")

    async def _ask(self, begin: int) -> tuple[questions.OwnedListed, str]:
        if self._unstored is not None:
            raise _Stopped(self._unstored)
        if not self._all.running():
            raise _Stopped("the daemon is stopping")
        what = questions.ListOwned(self._tenant, self._stamp, self._all.page_items, begin)
        reply = await self._all.ask(self._after, what=what)
        assert isinstance(reply.what, questions.OwnedListed)
        if self._after is not None:
            # It covers that of the caller, which is worth nothing after two steps of a change of the secret.
            self._after = reply.position
        return reply.what, reply.position

    async def _delete(self, ids: list[int], stamps: list[int]) -> None:
        """
        Have the tombstones of a page stored, as soon as there is room for them.
        """
        # The answer may be older than what was under way when it came. What has changed since is met again.
        known = {item for page in self._pages for item in page.ids}
        while len(self._pages) >= _PAGES:
            await self._oldest()
        rows = [row for row in zip(ids, stamps, strict=True) if row[0] not in known]
        if not rows:
            return
        page = _Page([item for item, _ in rows])

        def ended(request: Request) -> None:
            self._ended(request)
            page.stored.callback(None)

        self._all.store(page.ids, [stamp for _, stamp in rows], ended)
        self._pages.append(page)

    def _ended(self, request: Request) -> None:
        self._deleted += request.items_stored
        self._position = self._position.join(request.position)
        if not request.complete:
            self._doubtful = self._doubtful or request.maybe_stored
            self._unstored = "the nodes did not store a deletion in time"

    async def _oldest(self) -> None:
        """
        Wait for the page that is under way longest.
        """
        await self._pages[0].stored
        self._pages.popleft()

    async def _settle(self) -> None:
        while self._pages:
            await self._oldest()

    def _refusal(self, why: str, cause: Refusal | None) -> Refusal:
        nothing = not self._deleted and not self._doubtful
        if nothing and cause is not None and cause.outcome in {None, "not_applied"}:
            return cause
        outcome: Outcome = "unknown" if self._doubtful else "not_applied" if nothing else "partial"
        position = self._all.token(self._position) if self._deleted else None
        return EraseStopped(why, deleted=self._deleted, position=position, stamp=self._stamp, outcome=outcome)

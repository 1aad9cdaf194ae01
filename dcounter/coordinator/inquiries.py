"""
All questions but single counts: the part of a `Store` that asks our nodes.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dcounter.coordinator.asking import Asking
from dcounter.coordinator.exports import RestOfExport
from dcounter.coordinator.reads import Question
from dcounter.errors import AnswerTooLarge, InvalidCursor
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol import exports, messages, questions
from dcounter.protocol.abilities import ANSWERS_QUESTIONS, GIVES_EXPORTS, LISTS_OWNED
from dcounter.protocol.batch import Milliseconds, RequestId
from dcounter.protocol.position import NodeId, Position
from dcounter.protocol.token import CursorSeal
from dcounter.store import (
    Capability,
    Consistency,
    Counts,
    Export,
    Item,
    ItemPage,
    Looked,
    Order,
    PrefixCount,
    Statistics,
    TenantPage,
)

_A = TypeVar("_A")


@dataclass(slots=True, eq=False)
class Reply:
    """
    The answer to a question of one caller.

    :ivar what: what a node said.
    :ivar position: what it includes, as a token.
    :ivar node: the node that said it.
    """

    what: Any
    position: str
    complete: bool
    missing: Sequence[NodeId]
    node: NodeId | None = None

    @property
    def gaps(self) -> dict[str, Any]:
        """
        What belongs to any answer of a store.
        """
        return {"position": self.position, "complete": self.complete, "missing": self.missing}


@dataclass(slots=True, eq=False)
class CountsQuestion(Question[messages.Counted]):
    """
    A question for the counts of many tenants, of one caller. Every release of a node can answer it.
    """

    tenants: list[str] = field(default_factory=list)

    def message(self, number: RequestId, required: Position, wait: Milliseconds) -> messages.Count:
        return messages.Count(number, self.tenants, required, wait)

    def tell(
        self, answer: messages.Counted, token: str, missing: Sequence[NodeId], *, complete: bool
    ) -> None:
        for caller in self.callers:
            caller.callback(Reply(answer.counts, token, complete, missing))


@dataclass(slots=True, eq=False)
class Inquiry(Question[questions.Told]):
    """
    Any other question, of one caller.
    """

    feature: ClassVar[str] = ANSWERS_QUESTIONS
    what: questions.Question = field(kw_only=True)

    def message(self, number: RequestId, required: Position, wait: Milliseconds) -> questions.Ask:
        return questions.Ask(number, self.what, required, wait)

    def is_answer(self, answer: questions.Told) -> bool:
        return answer.what != questions.Declined("late")

    def why_declined(self, answer: questions.Told) -> str:
        match answer.what:
            case questions.Declined(why="busy"):
                return "nodes have too many questions to answer"
            case questions.Declined(why="failed"):
                return "nodes could not compute the answer, and have logged why"
            case _:
                return ""

    def tell(self, answer: questions.Told, token: str, missing: Sequence[NodeId], *, complete: bool) -> None:
        if answer.what == questions.Declined("too_large"):
            self.refuse(AnswerTooLarge("the answer is too large: the names in it are too long; ask for less"))
        elif isinstance(answer.what, questions.Declined):
            self.refuse_incomplete("the node could not compute the answer in time", missing)
        else:
            for caller in self.callers:
                caller.callback(Reply(answer.what, token, complete, missing, self.told_by))


@dataclass(slots=True, eq=False)
class ExportInquiry(Inquiry):
    """
    The question for the first piece of an export.
    """

    feature: ClassVar[str] = GIVES_EXPORTS


class OwnedInquiry(Inquiry):
    """
    A question for entries that name a tenant, which only later releases can answer.
    """

    feature: ClassVar[str] = LISTS_OWNED


class Inquiries:
    """
    The questions of a `Store`.

    :ivar running: whether it takes questions.
    """

    running: int
    _asking: Asking
    _links: dict[NodeId, NodeLink]
    _time: IReactorTime

    def __init__(self, limits: Limits, cursors: CursorSeal) -> None:
        self._limits = limits
        self._cursors = cursors

    @property
    def capabilities(self) -> AbstractSet[Capability]:
        """
        All that there is.
        """
        return frozenset(get_args(Capability))

    async def _put(
        self, kind: type[Question[Any]], consistency: Consistency, after: str | None, **words: Any
    ) -> Reply:
        """
        Put a question to a node, and return what it answers.

        :param kind: the kind of question, made from these words.
        :param after: the position token that its caller gave.
        """
        extra, _ = self._asking.read_token(after)
        question = kind(consistency, extra, self._asking.until(), **words)
        answer: Deferred[Reply] = Deferred(lambda _: self._asking.withdraw(question))
        question.callers.append(answer)
        if self.running:
            self._asking.begin(question)
        else:
            self._asking.expire(question)
        return await answer

    async def _inquire(
        self, what: questions.Question, answer: type[_A], consistency: Consistency, after: str | None
    ) -> tuple[_A, Reply]:
        reply = await self._put(Inquiry, consistency, after, what=what)
        assert isinstance(reply.what, answer)
        return reply.what, reply

    async def look_up(
        self, ids: Sequence[int], *, consistency: Consistency, after: str | None = None
    ) -> Looked:
        what = questions.LookUp(list(ids))
        found, reply = await self._inquire(what, questions.LookedUp, consistency, after)
        items = [
            None if tenant is None else Item(item, tenant, stamp)
            for item, tenant, stamp in zip(ids, found.tenants, found.stamps, strict=True)
        ]
        return Looked(items=items, **reply.gaps)

    async def count_many(
        self, tenants: Sequence[str], *, consistency: Consistency, after: str | None = None
    ) -> Counts:
        if sum(map(len, tenants)) > self._limits.slice_bytes:
            raise AnswerTooLarge("the names of these tenants are too long for one question; ask for fewer")
        reply = await self._put(CountsQuestion, consistency, after, tenants=list(tenants))
        return Counts(counters=reply.what, **reply.gaps)

    async def count_prefix(
        self, prefix: str, *, consistency: Consistency, after: str | None = None
    ) -> PrefixCount:
        what = questions.SumPrefix(prefix)
        found, reply = await self._inquire(what, questions.PrefixSummed, consistency, after)
        return PrefixCount(counter=found.items, tenants=found.tenants, **reply.gaps)

    async def list_tenants(
        self,
        *,
        order: Order,
        prefix: str = "",
        limit: int,
        cursor: str | None = None,
        consistency: Consistency,
        after: str | None = None,
    ) -> TenantPage:
        words = ("tenants", order, prefix)
        place = ("", 0) if cursor is None else self._open(words, cursor, tuple[str, int])
        by: Literal["name", "count"] = "name" if order == "name" else "count"
        what = questions.ListTenants(by, limit, prefix, *place)
        found, reply = await self._inquire(what, questions.TenantsListed, consistency, after)
        following = None
        if found.more:
            last = found.counts[-1] if by == "count" else 0
            following = self._cursors.seal(words, (found.tenants[-1], last))
        page = list(zip(found.tenants, found.counts, strict=True))
        return TenantPage(tenants=page, cursor=following, **reply.gaps)

    async def list_items(
        self,
        tenant: str,
        *,
        limit: int,
        cursor: str | None = None,
        consistency: Consistency,
        after: str | None = None,
    ) -> ItemPage:
        words = ("items", tenant)
        place = None if cursor is None else self._open(words, cursor, int)
        what = questions.ListItems(tenant, limit, place)
        found, reply = await self._inquire(what, questions.ItemsListed, consistency, after)
        following = None if found.after is None else self._cursors.seal(words, found.after)
        return ItemPage(ids=found.ids, cursor=following, **reply.gaps)

    async def statistics(self, *, consistency: Consistency, after: str | None = None) -> Statistics:
        what = questions.Measure()
        found, reply = await self._inquire(what, questions.Measured, consistency, after)
        return Statistics(
            items=found.items,
            tenants=found.tenants,
            tombstones=found.tombstones,
            memory_bytes=found.memory,
            memory_bytes_of_ten=found.memory_of_ten,
            disk_bytes=found.disk,
            **reply.gaps,
        )

    async def export(
        self,
        *,
        deleted: bool,
        prefixes: Sequence[str] = (),
        consistency: Consistency,
        after: str | None = None,
    ) -> Export:
        limits = self._limits
        until = self._time.seconds() + limits.export_s
        what = exports.Export(0, limits.export_rows, deleted=deleted and not prefixes, prefixes=[*prefixes])
        reply = await self._put(ExportInquiry, consistency, after, what=what)
        assert isinstance(reply.what, exports.Exported)
        assert reply.node is not None
        rest = RestOfExport(what, reply.what, self._links[reply.node], limits, until, self._time)
        items = None if prefixes else reply.what.items
        return Export(items=items, pieces=rest.pieces(), **reply.gaps)

    def _open(self, words: Sequence[str], cursor: str, kind: type[_A]) -> _A:
        """
        Read a cursor.

        :param words: what distinguishes the list from others.
        :param kind: the type of a place in it.
        """
        try:
            return self._cursors.open(words, cursor, kind)
        except ValueError as error:
            raise InvalidCursor(
                "the cursor is not from an earlier page of this list, or the secret of the cluster was "
                f"replaced since ({error}): begin with the first page again"
            ) from error

"""
Computes the answers to `questions.Ask`, long ones in steps.

A step takes at most about 10 ms. Between two of them the node does its other work, and goes on merging
batches. The answer is nevertheless that of one moment, the last step (`dcounter.ledger.steps`). So its
position is the one that is applied then, and whether it includes what is required is decided then, just as
for a count. It includes at least what was applied when the question came.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from traceback import format_exception
from typing import Literal, assert_never

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import Steps
from dcounter.node.auditing import Auditing
from dcounter.node.contents import Contents
from dcounter.node.effects import Effect, Outbox, StepsLeft
from dcounter.protocol import exports, questions
from dcounter.protocol.position import Position

_AT_ONCE = 16
"""
How many IDs are looked up at once, and not in the next step.
"""

_TURNS = 8
"""
How many take turns; the others wait until one of those ends. Each under way takes some memory, and time of
every merge.
"""


PlainQuestion = (
    questions.LookUp
    | questions.ListTenants
    | questions.SumPrefix
    | questions.ListItems
    | questions.Measure
    | questions.ListOwned
    | exports.Export
)
"""
A question that depends on none before.
"""


def is_short(what: questions.Question) -> bool:
    """
    Whether the answer takes so little time that it need not wait for others.
    """
    return isinstance(what, questions.LookUp) and len(what.ids) <= _AT_ONCE


def steps_to(contents: Contents, what: PlainQuestion, most: int) -> Steps[questions.Answer]:
    """
    The steps to the answer of a question. What the node has in memory may change between them.

    :param most: the most bytes of names in an answer. Six times that, its longest form in JSON, fits a line.
    """
    ledger = contents.ledger
    match what:
        case questions.LookUp():
            return _look_up(ledger, what, most)
        case questions.ListTenants():
            return _list_tenants(ledger, what, most)
        case questions.SumPrefix():
            return _sum_prefix(ledger, what)
        case questions.ListItems():
            return _list_items(ledger, what)
        case questions.ListOwned():
            return _list_owned(ledger, what)
        case questions.Measure():
            return _measure(contents)
        case exports.Export():
            return _export(ledger, what, most)
        case _:
            assert_never(what)


def _look_up(ledger: Ledger, what: questions.LookUp, most: int) -> Steps[questions.Answer]:
    yield from ()
    found = ledger.find(what.ids)
    tenants = [None if each is None else each.tenant for each in found]
    if sum(len(each) for each in tenants if each is not None) > most:
        return questions.Declined("too_large")
    return questions.LookedUp([0 if each is None else each.stamp for each in found], tenants)


def _list_tenants(ledger: Ledger, what: questions.ListTenants, most: int) -> Steps[questions.Answer]:
    if what.order == "name":
        page = yield from ledger.tenants_by_name(what.after, what.prefix, what.limit)
    else:
        after = (what.count, what.after) if what.after else None
        page = yield from ledger.tenants_by_count(after, what.prefix, what.limit)
    names = [name for name, _ in page.tenants]
    sizes = accumulate(map(len, names))
    # One always fits: names have a limit of their own.
    fitting = max(1, sum(size <= most for size in sizes))
    counts = [number for _, number in page.tenants[:fitting]]
    return questions.TenantsListed(names[:fitting], counts, page.more or fitting < len(names))


def _sum_prefix(ledger: Ledger, what: questions.SumPrefix) -> Steps[questions.Answer]:
    found = yield from ledger.prefix_sum(what.prefix)
    return questions.PrefixSummed(found.items, found.tenants)


def _list_items(ledger: Ledger, what: questions.ListItems) -> Steps[questions.Answer]:
    page = yield from ledger.items_of(what.tenant, what.after, what.limit)
    return questions.ItemsListed(page.ids, page.after)


def _list_owned(ledger: Ledger, what: questions.ListOwned) -> Steps[questions.Answer]:
    page = yield from ledger.owned_by(what.tenant, what.until, what.begin, what.limit)
    return questions.OwnedListed.of(page.ids, page.stamps, page.next)


def _measure(contents: Contents) -> Steps[questions.Answer]:
    yield from ()
    found = contents.ledger.statistics()
    return questions.Measured(
        found.items,
        found.tenants,
        found.tombstones,
        found.bytes,
        # A small ledger has more room already.
        max(found.bytes, found.bytes_for(10)),
        contents.journal_bytes,
    )


def _export(ledger: Ledger, what: exports.Export, most: int) -> Steps[questions.Answer]:
    yield from ()
    if what.numbering not in {None, ledger.numbering}:
        return questions.Declined("renumbered")
    prefixes = tuple(what.prefixes)
    found = ledger.export(
        what.first,
        what.first + what.rows,
        deleted=what.deleted,
        may_read=(lambda tenant: tenant.startswith(prefixes)) if prefixes else None,
        limit=most,
    )
    items = ledger.known if what.deleted else len(ledger)
    return exports.Exported(*found, ledger.known, items, ledger.numbering)


@dataclass(slots=True, eq=False)
class _Inquiry:
    """
    A question whose answer is being computed.

    :ivar until: when (s) its answer is of no use any more.
    """

    channel: int
    ask: questions.Ask
    until: float
    steps: Steps[questions.Answer]


class Inquiries:
    """
    The questions whose answers one node is computing, some of them in turns: one step of each.

    :param contents: what the node has in memory.
    :param includes: whether an answer that is made now includes what its question requires.
    :param position: gives the position of an answer that is made now.
    :param most: see `steps_to`.
    :param at_once: how many there may be; further ones are declined.
    :param room: how many bytes an audit may remember.
    :ivar audits: the audit, if there is one.
    """

    def __init__(
        self,
        out: Outbox,
        contents: Contents,
        *,
        includes: Callable[[questions.Ask], bool],
        position: Callable[[], Position],
        most: int,
        at_once: int,
        room: int = 0,
    ) -> None:
        self._out = out
        self._contents = contents
        self._includes = includes
        self._position = position
        self._most = most
        self._at_once = at_once
        self._failed: set[type[questions.Question]] = set()
        self._waiting: deque[_Inquiry] = deque()
        self.audits = Auditing(contents, room=room, most=most)

    def begin(self, channel: int, ask: questions.Ask, until: float) -> None:
        """
        Compute an answer.

        :param until: when (s) it is of no use any more.
        """
        inquiry = _Inquiry(channel, ask, until, self._steps_to(channel, ask))
        if is_short(ask.what):
            self._step(inquiry)
        elif len(self._waiting) >= self._at_once:
            self.decline(channel, ask, "busy")
        else:
            self._waiting.append(inquiry)
            self._go_on()

    def begin_again(self) -> None:
        """
        There is another ledger: what was computed so far is worth nothing.
        """
        self.audits.close()
        for each in self._waiting:
            each.steps.close()
            each.steps = self._steps_to(each.channel, each.ask)

    def _steps_to(self, channel: int, ask: questions.Ask) -> Steps[questions.Answer]:
        if isinstance(ask.what, questions.AuditQuestion):
            return self.audits.steps_to(channel, ask.what, ask.required)
        return steps_to(self._contents, ask.what, self._most)

    def step(self, now: float) -> list[Effect]:
        """
        Take the next step to one answer.
        """
        if self._waiting:
            inquiry = self._waiting.popleft()
            if now >= inquiry.until:
                inquiry.steps.close()
                self.decline(inquiry.channel, inquiry.ask, "late")
            elif not self._step(inquiry):
                self._waiting.insert(_TURNS - 1, inquiry)
        self._go_on()
        return self._out.take()

    def withdraw(self, channel: int, request: int) -> None:
        """
        Nobody waits for an answer any more.
        """
        wanted = [each for each in self._waiting if each.channel == channel and each.ask.request == request]
        for each in wanted:
            self._waiting.remove(each)
            each.steps.close()
            self.decline(channel, each.ask, "late")

    def decline(self, channel: int, ask: questions.Ask, why: Literal["late", "busy", "failed"]) -> None:
        """
        Answer that there is no answer.
        """
        told = questions.Told(
            ask.request, questions.Declined(why), False, self._position(), self._contents.stamp
        )
        self._out.send(channel, told)

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone, and its questions with it.
        """
        for each in self._waiting:
            if each.channel == channel:
                each.steps.close()
        self._waiting = deque(each for each in self._waiting if each.channel != channel)
        self.audits.disconnected(channel)

    def _go_on(self) -> None:
        if self._waiting:
            self._out.add(StepsLeft())

    def _step(self, inquiry: _Inquiry) -> bool:
        """
        Take a step to an answer; whether that was the last one.
        """
        try:
            next(inquiry.steps)
        except StopIteration as stop:
            self._tell(inquiry, stop.value)
            return True
        except Exception as error:  # noqa: BLE001 - a bug, and other questions must not wait for its repair
            self._log_failure(type(inquiry.ask.what), error)
            self.decline(inquiry.channel, inquiry.ask, "failed")
            return True
        return False

    def _log_failure(self, kind: type[questions.Question], error: Exception) -> None:
        """
        Log an error the first time that it concerns this kind of question.
        """
        if kind not in self._failed:
            self._failed.add(kind)
            text = "".join(format_exception(error))
            self._out.say("error", f"a question of the kind {kind.__name__} could not be answered: {text}")

    def _tell(self, inquiry: _Inquiry, what: questions.Answer) -> None:
        complete = self._includes(inquiry.ask)
        told = questions.Told(inquiry.ask.request, what, complete, self._position(), self._contents.stamp)
        self._out.send(inquiry.channel, told)

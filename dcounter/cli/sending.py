"""
Sends the items of a file in pieces, several at once, each again until the daemon has answered it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime

from dcounter.cli.failures import Failed
from dcounter.cli.persisting import Persistence
from dcounter.client_answers import Refused
from dcounter.http.answer_bodies import Stored

_OF_ITEMS: Final = frozenset(
    {"malformed", "invalid_item", "stamp_too_old", "body_too_large", "too_many_items"}
)
"""
Refusals of a piece because of some of its items: the others may be accepted without them.
"""


class Line(NamedTuple):
    """
    An item on its way.

    :ivar number: where it is in its file.
    :ivar source: as it is there.
    :ivar item: as it is sent.
    """

    number: int
    source: bytes
    item: bytes


class Mistake(NamedTuple):
    """
    A line that is refused.
    """

    line: Line
    why: str


class Piece(NamedTuple):
    """
    What is sent at once.

    :ivar mistakes: lines that cannot be sent.
    :ivar read_bytes: how much of the file was read when it was complete.
    """

    lines: Sequence[Line]
    mistakes: Sequence[Mistake]
    read_bytes: int


class Watcher(Protocol):
    """
    Is told how it goes.
    """

    def done(self, piece: Piece, sending: "Sending") -> None:
        """
        All of a piece is stored or refused.
        """

    def refused(self, mistake: Mistake) -> None:
        """
        A line is refused.
        """

    def waits(self, why: str, sending: "Sending") -> None:
        """
        A piece must be sent again.
        """


@dataclass(slots=True)
class Sent:
    """
    What became of the lines.

    :ivar stored: how many items are stored.
    :ivar refused: how many lines are refused.
    :ivar repeated: how many requests were sent again.
    :ivar warning: what the daemon wants people to know.
    """

    stored: int = 0
    refused: int = 0
    repeated: int = 0
    warning: str = ""


class Sending:
    """
    Sends pieces until there are no more.

    To send items twice does no harm, since each has a stamp: so whatever is not answered is sent again.

    :param take: gives the next piece, `None` at the end; raises `Failed` if the input breaks off.
    :param post: sends a JSON array of items once.
    :param clock: for the time between two attempts.
    :param jitter: random numbers from 0 to 1.
    :param patience_s: time (s) without any progress after which to give up.
    """

    def __init__(
        self,
        take: Callable[[], Awaitable[Piece | None]],
        post: Callable[[bytes], Awaitable[Stored]],
        watcher: Watcher,
        *,
        clock: IReactorTime,
        jitter: Callable[[], float],
        patience_s: float,
    ) -> None:
        self.sent = Sent()
        self._take = take
        self._post = post
        self._watcher = watcher
        self._persistence = Persistence(clock, jitter=jitter, patience_s=patience_s, again=self._again)
        self._broken: Failed | None = None

    async def run(self, at_once: int) -> None:
        """
        Send everything, so many pieces at once.

        :raises Failed: the input broke off. What came before it is sent.
        :raises GaveUp: the daemon does not answer, or cannot store.
        :raises Refused: the daemon refuses, and not because of the items.
        """
        workers = [Deferred.fromCoroutine(self._work()) for _ in range(at_once)]
        try:
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            for each in workers:
                each.cancel()
        if self._broken is not None:
            raise self._broken

    async def _next(self) -> Piece | None:
        try:
            return await self._take()
        except Failed as error:
            # The other workers finish what they have.
            self._broken = error
            return None

    async def _work(self) -> None:
        while (piece := await self._next()) is not None:
            for line, why in piece.mistakes:
                self._refuse(line, why)
            if piece.lines:
                await self._send(piece.lines)
            self._watcher.done(piece, self)

    async def _send(self, lines: Sequence[Line]) -> None:
        try:
            stored = await self._until_answered(lines)
        except Refused as refused:
            if refused.code not in _OF_ITEMS:
                raise
            if len(lines) > 1:
                await self._send_halves(lines)
            else:
                self._refuse(lines[0], str(refused.problem.get("detail")))
            return
        if stored.warning:
            self.sent.warning = str(stored.warning)
        reasons: dict[int, list[str]] = {}
        for each in stored.errors or ():
            why = f"{each.field}: {each.message}" if each.field else each.message
            reasons.setdefault(each.index, []).append(why)
        if (stored.invalid or 0) > len(reasons) and len(lines) > 1:
            # The daemon names only the first mistakes.
            await self._send_halves(lines)
            return
        self.sent.stored += stored.items
        for index, all_of_it in reasons.items():
            self._refuse(lines[index], "; ".join(all_of_it))

    async def _send_halves(self, lines: Sequence[Line]) -> None:
        middle = len(lines) // 2
        await self._send(lines[:middle])
        await self._send(lines[middle:])

    def _refuse(self, line: Line, why: str) -> None:
        self.sent.refused += 1
        self._watcher.refused(Mistake(line, why))

    async def _until_answered(self, lines: Sequence[Line]) -> Stored:
        body = b"[%s]" % b",".join(line.item for line in lines)
        return await self._persistence.until_answered(lambda: self._post(body))

    def _again(self, why: str) -> None:
        self.sent.repeated += 1
        self._watcher.waits(why, self)

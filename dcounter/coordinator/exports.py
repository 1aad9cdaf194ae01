"""
The rest of an export, after its first piece: the same node is asked for row after row.

Rows have numbers of their own at each node, and other ones after a start or a compaction. So nothing but the
connection on which an export began can bring the rest of it.
"""

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from itertools import islice

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dcounter.errors import AnswerBroken, LinkLost
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol import exports, questions
from dcounter.store import ExportPiece


class RestOfExport:
    """
    An export of which the first piece is here.

    Some pieces are asked for before they are wanted, so that the node works while the caller reads. As long
    as the caller takes none, no further ones are asked for.

    :param what: the question for the first piece.
    :param first: its answer.
    :param link: to the node that gave it.
    :param until: when (s) the export must be over.
    """

    def __init__(
        self,
        what: exports.Export,
        first: exports.Exported,
        link: NodeLink,
        limits: Limits,
        until: float,
        time: IReactorTime,
    ) -> None:
        self._what = replace(what, numbering=first.numbering)
        self._first = first
        self._link = link
        # Of each connection there is another one.
        self._peer = link.peer
        self._limits = limits
        self._until = until
        self._time = time

    async def pieces(self) -> AsyncGenerator[ExportPiece, None]:
        """
        All pieces.

        :raises AnswerBroken: the rest cannot be had.
        """
        first, most = self._first, self._limits.export_pieces
        # What is stored for the first time from now on need not be there.
        ranges = self._ranges(first.next, first.end)
        under_way: deque[tuple[int, int, Deferred[questions.Told]]] = deque()
        try:
            yield ExportPiece(first.lines, first.rows)
            while True:
                for begin, end in islice(ranges, most - len(under_way)):
                    under_way.append((begin, end, self._ask(begin, end)))
                if not under_way:
                    return
                begin, end, answer = under_way.popleft()
                while begin < end:
                    piece = self._read(await answer)
                    if piece is None:
                        await deferLater(self._time, self._limits.heartbeat_s)
                    else:
                        begin = piece.next
                        yield ExportPiece(piece.lines, piece.rows)
                    if begin < end:
                        answer = self._ask(begin, end)
        except LinkLost as error:
            raise AnswerBroken(f"the node that gives it is gone: {error}") from error
        finally:
            for _, _, answer in under_way:
                answer.addErrback(_not_wanted)
                answer.cancel()

    def _ranges(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        step = self._limits.export_rows
        return ((each, min(each + step, end)) for each in range(begin, end, step))

    def _ask(self, begin: int, end: int) -> Deferred[questions.Told]:
        """
        Ask for rows.

        :raises AnswerBroken: there is no time left.
        :raises LinkLost: the connection is another one.
        """
        if self._time.seconds() >= self._until:
            raise AnswerBroken(f"it took longer than {self._limits.export_s:g} s")
        if self._link.peer is not self._peer:
            raise LinkLost("the node was connected anew")
        what = replace(self._what, first=begin, rows=end - begin)
        return self._link.ask(lambda number: questions.Ask(number, what))

    def _read(self, told: questions.Told) -> exports.Exported | None:
        """
        The rows that a node gave; `None` if it has too much to do now.

        :raises AnswerBroken: it cannot give them.
        """
        match told.what:
            case exports.Exported() as piece:
                return piece
            case questions.Declined(why="late" | "busy"):
                return None
            case questions.Declined(why="renumbered"):
                raise AnswerBroken("a compaction gave the rows of the node other numbers")
            case _:
                raise AnswerBroken("the node failed, and has logged why")


def _not_wanted(why: Failure) -> None:
    why.trap(LinkLost, CancelledError)

"""
What a node asks of its journal, and what the journal tells the node.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from dcounter.journal.figures import JournalFigures
from dcounter.journal.framing import JournalEntry


class JournalUser(Protocol):
    """
    A node, as its journal sees it: the journal tells it what became of its lines.
    """

    def journal_synced(self, entries: Sequence[JournalEntry]) -> None:
        """
        Lines are durable.

        :param entries: the very objects that were appended: the oldest of those that were not durable.
        """

    def journal_failed(self, entries: Sequence[JournalEntry], reason: str) -> None:
        """
        Lines are not durable, and none will be until `journal_mended`.

        :param entries: all that were appended and did not become durable; none from within `open`.
        """

    def journal_doubted(self) -> None:
        """
        What `recover` gave may not be durable before `journal_mended` or a snapshot.

        Called from within `open`, before `journal_failed`.
        """

    def journal_mended(self) -> None:
        """
        The journal takes lines again.
        """


class Journal(Protocol):
    """
    Takes lines in order and tells when they are durable, in the same order.

    :ivar figures: what it counts and measures about itself.
    """

    figures: JournalFigures

    def recover(self) -> Iterable[JournalEntry]:
        """
        All lines that were kept, except for chunks of the ledger, oldest first; called once, before `open`.

        :raises NewerJournal: a newer version of dcounter wrote it, and this one cannot read it.
        :raises CorruptJournal: something in the middle is damaged.
        :raises ConfigurationError: another process uses the journal, or it belongs to another node.
        """
        ...

    def load(self) -> Iterable[JournalEntry]:
        """
        The lines that the ledger is made of: the chunks, which `recover` passed over, and all batches.

        Called once, after `recover`. Meanwhile lines may be appended, but no snapshot may be taken.

        :raises CorruptJournal: something is damaged.
        """
        ...

    def open(self, user: JournalUser) -> None:
        """
        Begin. If the disk fails already, the user is called from within `open`; never from within `append`.
        """

    def append(self, entry: JournalEntry, *, waits: bool = True) -> None:
        """
        Take a line.

        :param waits: whether an answer waits for it; if not, it may become durable a little later.
        """

    def flush(self) -> None:
        """
        Write what was appended without delay: an answer waits for it after all.
        """

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        """
        Keep a copy of the ledger, taken chunk by chunk, in place of all that was appended before.

        :param lines: gives the next chunk whenever the last one is written.
        :param ready: whether the copy may count: all that it holds is durable elsewhere, or the snapshot is
            the only thing that can make it durable.
        :returns: whether it is durable now. It is not if another one was being taken, if lines failed
            meanwhile, or if the disk failed a moment ago.
        """
        ...

    @property
    def due(self) -> bool:
        """
        Whether the journal has grown so much that a snapshot is worth while.
        """
        ...

    @property
    def size(self) -> int:
        """
        The bytes of all its files.
        """
        ...

    def close(self) -> Deferred[None]:
        """
        Finish. The Deferred fires when all lines that were taken are durable, or known not to be.
        """
        ...

"""
What a node asks of a journal, and what a journal tells its node.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from dcounter.journal.framing import Entry


class JournalUser(Protocol):
    """
    Whoever a journal tells what became of its lines.
    """

    def journal_synced(self, entries: Sequence[Entry]) -> None:
        """
        Lines are durable.

        :param entries: the very objects that were appended, the oldest of those that were not durable.
        """

    def journal_failed(self, entries: Sequence[Entry], reason: str) -> None:
        """
        Lines are not durable, and none will be until `journal_mended`.

        :param entries: all that were appended and were not durable; none from within `open`.
        """

    def journal_doubted(self) -> None:
        """
        What `recover` gave may not be durable, and only `journal_mended` and a snapshot make it so.

        From within `open`, before `journal_failed`.
        """

    def journal_mended(self) -> None:
        """
        The journal takes lines again.
        """


class Journal(Protocol):
    """
    Takes lines in order and tells when they are durable, in the same order.
    """

    def recover(self) -> Iterable[Entry]:
        """
        All that was kept but for pieces of the ledger, oldest first; called once, before `open`.

        :raises NewerJournal: a newer version of dcounter wrote it, and this one cannot read it.
        :raises CorruptJournal: something in the middle is damaged.
        :raises ConfigurationError: it is used by another process, or not ours.
        """
        ...

    def load(self) -> Iterable[Entry]:
        """
        What `recover` found or passed over and the ledger is made of: pieces, and batches once more.

        Called once, after `recover`; while it goes on, lines may be appended, but no snapshot be taken.

        :raises CorruptJournal: something is damaged.
        """
        ...

    def open(self, user: JournalUser) -> None:
        """
        Begin; the user is called from within `open` if the disk fails already, never from within `append`.
        """

    def append(self, entry: Entry, *, waits: bool = True) -> None:
        """
        Take a line.

        :param waits: whether somebody waits for it; if not, it may be a little late.
        """

    def hurry(self) -> None:
        """
        Somebody waits, after all, for what was appended.
        """

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        """
        Keep a copy of the ledger, taken piece by piece, in place of all that was appended before.

        :param lines: gives the next piece whenever the last one is written.
        :param ready: whether what the copy holds is durable otherwise, so that it may be relied on.
        :returns: whether it is durable now; it is not if one was being taken already, if lines failed
            meanwhile, or if the disk failed a moment ago.
        """
        ...

    @property
    def due(self) -> bool:
        """
        Whether a snapshot is worth while.
        """
        ...

    def close(self) -> Deferred[None]:
        """
        Finish what was taken; the Deferred fires when it is durable, or known not to be.
        """
        ...

"""
What it means that a node found its journal empty: the cluster is new, or the journal was lost.

What holds, after each call:

- a node that found its journal empty takes no writes until every peer has reported: only all of them together
  can tell which of the two it is;
- what it found out about that is in its journal. Otherwise, if it died while its peers gave back what it had,
  it would take what came back by then for all that it ever had.
"""

from dcounter.node.effects import Outbox
from dcounter.node.members import Members
from dcounter.protocol import messages


class EmptyJournal:
    """
    What one node knows of its journal, if that was empty when it was read first.

    :ivar undecided: whether it is not known yet what the empty journal means.
    :ivar wiped: whether the node had a journal before, and has not opened a run since.
    """

    def __init__(self, members: Members, out: Outbox) -> None:
        self._out = out
        self._members = members
        self.undecided = bool(members.peers)
        self.wiped = False
        self._in_journal = False

    def restored(self, message: messages.JournalState | None) -> None:
        """
        The journal has a line.

        :param message: a `JournalState`; `None` for any other line.
        """
        if message is not None:
            self._in_journal = True
            self.undecided = not message.known and bool(self._members.peers)
            self.wiped = message.wiped
        elif not self._in_journal:
            # Only a journal that was empty has a line about itself.
            self.undecided = False

    def begin(self) -> bool:
        """
        All lines of the journal are restored.

        :returns: whether the journal state must be written now.
        """
        if not self.undecided or self._in_journal:
            return False
        self._in_journal = True
        return True

    def journal_state(self) -> messages.JournalState | None:
        """
        The line about itself that the journal must have; `None` if it was not empty.
        """
        return messages.JournalState(not self.undecided, self.wiped) if self._in_journal else None

    def decide(self) -> bool:
        """
        Decide what the empty journal means, if all peers have reported.

        :returns: whether this call decided it.
        """
        if not self.undecided or not self._members.all_heard:
            return False
        self.undecided = False
        self.wiped = self.wiped or any(each.applied.nodes for each in self._members.reports.values())
        if self.wiped:
            self._out.say("warn", "this node has no journal but its peers hold items: refilling")
        return True

    def opened_run(self) -> bool:
        """
        A run of this node is durable, and its opening says whether the journal was lost.

        :returns: whether it was.
        """
        was = self.wiped
        self.wiped = False
        return was

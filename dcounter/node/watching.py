"""
Tells coordinators whose counts change, as long as they ask.

What holds, after each call:

- whatever changed since an answer that began is in a later answer on the same channel, or the next answer
  begins anew and says so;
- counts are told only if the ledger holds exactly what `applied` covers;
- a ledger that no coordinator has asked about for a while is not watched.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dcounter.ledger.touched import Touched
from dcounter.limits import Limits
from dcounter.node.contents import Contents
from dcounter.node.effects import Outbox
from dcounter.protocol.position import Position
from dcounter.protocol.watching import Changed, Watch


@dataclass(slots=True, eq=False)
class _Watcher:
    """
    A coordinator that asks.

    :ivar touched: what changed since the last answer; `None` before it begins.
    :ivar asked: the question that waits.
    :ivar until: when (s) that has waited long enough; without one, when the coordinator has forgotten us.
    """

    touched: Touched | None = None
    asked: Watch | None = None
    until: float = 0.0


class Watching:
    """
    The coordinators that watch one node.

    :param includes: whether the ledger holds exactly what is applied, and that covers a position.
    :param position: gives the position of an answer that is made now.
    """

    def __init__(
        self,
        out: Outbox,
        contents: Contents,
        *,
        includes: Callable[[Position], bool],
        position: Callable[[], Position],
        limits: Limits,
    ) -> None:
        self._out = out
        self._contents = contents
        self._includes = includes
        self._position = position
        self._limits = limits
        self._watchers: dict[int, _Watcher] = {}

    def take(self, channel: int, message: Watch, now: float) -> None:
        """
        A coordinator asks what has changed.
        """
        watcher = self._watchers.get(channel)
        if watcher is None or not message.goes_on:
            self.disconnected(channel)
            watcher = self._watchers[channel] = _Watcher()
        elif watcher.asked is not None:
            self._tell(channel, watcher, [], complete=False)
        watcher.asked, watcher.until = message, now + message.wait / 1000
        self._look(channel, watcher, now)

    def tick(self, now: float) -> None:
        """
        Time has passed: tell what has changed meanwhile.
        """
        for channel, watcher in list(self._watchers.items()):
            if watcher.asked is not None:
                self._look(channel, watcher, now)
            elif now >= watcher.until:
                self.disconnected(channel)

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone, or its coordinator asks no more.
        """
        watcher = self._watchers.pop(channel, None)
        if watcher is not None and watcher.touched is not None:
            watcher.touched.close()

    def begin_again(self) -> None:
        """
        There is another ledger: nothing is known of what has changed.
        """
        for watcher in self._watchers.values():
            if watcher.touched is not None:
                watcher.touched.close()
                watcher.touched = None

    def _look(self, channel: int, watcher: _Watcher, now: float) -> None:
        """
        Answer, if there is something to tell or the time is over.
        """
        assert watcher.asked is not None
        touched = watcher.touched
        able = self._includes(watcher.asked.required)
        changed: list[tuple[str, int]] = []
        begins = touched is None or touched.overflown
        if able and not begins:
            assert touched is not None
            changed = touched.take(self._limits.changed_tenants, self._limits.batch_bytes)
        elif able:
            if touched is not None:
                touched.close()
            watcher.touched = self._contents.ledger.touched()
        if changed or (able and begins) or now >= watcher.until:
            self._tell(channel, watcher, changed, complete=able, begins=able and begins)
            watcher.until = now + self._limits.idle_s

    def _tell(
        self,
        channel: int,
        watcher: _Watcher,
        changed: list[tuple[str, int]],
        *,
        complete: bool,
        begins: bool = False,
    ) -> None:
        assert watcher.asked is not None
        self._out.send(
            channel,
            Changed(
                watcher.asked.request,
                complete,
                self._position(),
                self._contents.stamp,
                begins,
                [tenant for tenant, _ in changed],
                [count for _, count in changed],
            ),
        )
        watcher.asked = None

"""
What a coordinator tells watchers: the last change of each tenant, and which watchers want it.

There is one list of events for all watchers. It has the last change of each tenant, in the order of these
changes, and each watcher has its place in it. So a watcher takes no memory for what it has not read yet, a
later change replaces an earlier one that it has not read, and one that comes back finds what it missed.

What holds, after each call:

- all events beyond `_floor` are in the list, but for changes that later ones have replaced;
- a watcher for whom nothing has come has been told everything, wherever its place is;
- a watcher whose place is before a reset is told of that first.
"""

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dcounter.coordinator.view import View
from dcounter.events import CountChanged, Dropped, Event, News, NodeChanged, Reset, Wanted
from dcounter.limits import Limits

_NODE_EVENTS = 1_000
"""
How many events of nodes are kept.
"""

_EVENT_BYTES = 64
"""
About how many bytes an event takes, besides the name of its tenant.
"""

_SHARED_NEWS = 256
"""
How many news are kept for others who want the same.
"""


@dataclass(slots=True, eq=False)
class Reader:
    """
    A watcher's place in the list.

    :ivar place: the number of the last event that it has been told, or did not want.
    :ivar behind_since: since when (s) it has not been told all that it wants; `None` if it has.
    """

    wanted: Wanted
    place: int
    behind_since: float | None = None


Readers = dict[Reader, None]
"""
Watchers, in the order in which they came: simulated worlds repeat their stories.
"""


class Board:
    """
    The events of one coordinator.

    :param session: a text that no other coordinator has: places in another list mean nothing here.
    :ivar last: the number of the last event.
    :ivar readers: all watchers.
    """

    def __init__(self, session: str, limits: Limits) -> None:
        self._session = session
        self._limits = limits
        self.last = 0
        self._floor = 0
        self._reset = 0
        self._reset_position = ""
        self._changes: OrderedDict[str, tuple[int, CountChanged]] = OrderedDict()
        self._of_nodes: deque[tuple[int, NodeChanged]] = deque(maxlen=_NODE_EVENTS)
        self.readers: Readers = {}
        self._want_all: Readers = {}
        self._want_nodes: Readers = {}
        self._want_tenant: dict[str, Readers] = {}
        self._want_prefix: dict[str, Readers] = {}
        self._touched: Readers = {}
        # What others at the same place who want the same were told.
        self._told: dict[tuple[Wanted, int], tuple[News | None, int]] = {}

    # What happens

    def begin(self, position: str) -> None:
        """
        Nothing is known of changes until now.

        :param position: a token: all changes after it will be known.
        """
        self._add()
        self._reset = self._floor = self.last
        self._reset_position = position
        self._changes.clear()
        self._comes_for(self.readers, self.last - 1)

    def changed(self, tenants: Sequence[str], counts: Sequence[int]) -> None:
        """
        The counts of these tenants have changed.
        """
        changes, before = self._changes, self.last
        for tenant, counter in zip(tenants, counts, strict=True):
            self._add()
            changes[tenant] = self.last, CountChanged(tenant, counter)
            changes.move_to_end(tenant)
        while len(changes) > self._limits.watch_kept:
            _, (self._floor, _) = changes.popitem(last=False)
        self._touch(tenants, before)

    def node_changed(self, events: Iterable[NodeChanged]) -> None:
        """
        Something has happened to nodes.
        """
        for event in events:
            self._add()
            if len(self._of_nodes) == _NODE_EVENTS:
                self._floor = max(self._floor, self._of_nodes[0][0])
            self._of_nodes.append((self.last, event))
            self._comes_for(self._want_nodes, self.last - 1)

    def take_touched(self, now: float) -> Readers:
        """
        Watchers for whom something has come since this was called last.
        """
        touched, self._touched = self._touched, {}
        for reader in touched:
            if reader.behind_since is None:
                reader.behind_since = now
        return touched

    def _add(self) -> None:
        self.last += 1
        self._told.clear()

    def _comes_for(self, readers: Readers, before: int) -> None:
        """
        Something has come for these watchers.

        :param before: the place before it: those who had been told everything need nothing that is older.
        """
        for reader in readers:
            if not self._lacks(reader):
                reader.place = before
        self._touched |= readers

    def _lacks(self, reader: Reader) -> bool:
        """
        Whether something has come for a watcher that it has not been told.
        """
        return reader.behind_since is not None or reader in self._touched

    def _touch(self, tenants: Sequence[str], before: int) -> None:
        if tenants:
            self._comes_for(self._want_all, before)
        if self._want_tenant:
            for tenant in tenants:
                if tenant in self._want_tenant:
                    self._comes_for(self._want_tenant[tenant], before)
        if self._want_prefix:
            names = sorted(tenants)
            for prefix, readers in self._want_prefix.items():
                first = bisect_left(names, prefix)
                if first < len(names) and names[first].startswith(prefix):
                    self._comes_for(readers, before)

    # Watchers

    def join(self, wanted: Wanted, since: str | None = None) -> tuple[Reader, bool]:
        """
        A watcher comes.

        :param since: the id of the last news that it has read.
        :returns: its place, and whether no event is missing between that id and this place.
        """
        place = None if since is None else self._place(since)
        reader = Reader(wanted, self.last if place is None else place)
        self.readers[reader] = None
        if reader.place < self.last:
            self._touched[reader] = None
        for readers in self._indexes(wanted):
            readers[reader] = None
        return reader, place is not None

    def leave(self, reader: Reader) -> None:
        """
        A watcher goes.
        """
        if reader not in self.readers:
            return
        del self.readers[reader]
        self._touched.pop(reader, None)
        for readers in self._indexes(reader.wanted):
            readers.pop(reader, None)
        for tenant in dict.fromkeys(reader.wanted.tenants or ()):
            if not self._want_tenant[tenant]:
                del self._want_tenant[tenant]
        for prefix in dict.fromkeys(reader.wanted.prefixes):
            if not self._want_prefix[prefix]:
                del self._want_prefix[prefix]

    def id_at(self, place: int) -> str:
        """
        The id of a place in the list.
        """
        return f"{self._session}-{place}"

    def _place(self, id: str) -> int | None:
        """
        The place with this id, if all events beyond it are in the list.
        """
        session, _, number = id.rpartition("-")
        # No list is longer: that many digits are no number of ours.
        if session != self._session or not number.isdecimal() or len(number) > 18:
            return None
        place = int(number)
        return place if max(self._floor, self._reset) <= place <= self.last else None

    def _indexes(self, wanted: Wanted) -> list[Readers]:
        found = [self._want_nodes] if wanted.nodes else []
        if wanted.tenants is not None:
            found += [self._want_tenant.setdefault(each, {}) for each in dict.fromkeys(wanted.tenants)]
        elif wanted.prefixes:
            found += [self._want_prefix.setdefault(each, {}) for each in dict.fromkeys(wanted.prefixes)]
        else:
            found.append(self._want_all)
        return found

    # What they are told

    def news(self, reader: Reader, now: float) -> News | None:
        """
        What a watcher is told next; `None` if it has been told everything. After `Dropped` it must leave.
        """
        if not self._lacks(reader):
            reader.place = self.last
            return None
        if reader.place == self.last:
            self._told_all(reader)
            return None
        if reader.place < self._reset:
            return self._tell_of_reset(reader)
        behind = 0.0 if reader.behind_since is None else now - reader.behind_since
        if reader.place < self._floor or behind > self._limits.watch_behind_s:
            return News(
                [Dropped("slow", "the events are not read as fast as they come")], self.id_at(reader.place)
            )
        key = reader.wanted, reader.place
        if key not in self._told:
            if len(self._told) >= _SHARED_NEWS:
                del self._told[next(iter(self._told))]
            self._told[key] = self._news_after(*key)
        news, reader.place = self._told[key]
        if reader.place == self.last:
            self._told_all(reader)
        return news

    def _told_all(self, reader: Reader) -> None:
        reader.behind_since = None
        self._touched.pop(reader, None)

    def _tell_of_reset(self, reader: Reader) -> News:
        events: list[Event] = []
        if reader.wanted.nodes:
            events += [event for place, event in self._of_nodes if reader.place < place < self._reset]
        reader.place = self._reset
        return News([*events, Reset(self._reset_position)], self.id_at(reader.place))

    def _news_after(self, wanted: Wanted, place: int) -> tuple[News | None, int]:
        """
        What comes after a place for those who want this, and the place after it.
        """
        found: list[tuple[int, Event]] = list(self._changes_after(wanted, place))
        if wanted.nodes and self._of_nodes and self._of_nodes[-1][0] > place:
            found += [each for each in self._of_nodes if each[0] > place]
        found.sort(key=lambda each: each[0])
        size = 0
        for number, (_, event) in enumerate(found):
            size += _EVENT_BYTES + (len(event.tenant) if isinstance(event, CountChanged) else 0)
            if number and size > self._limits.watch_part_bytes:
                del found[number:]
                place = found[-1][0]
                break
        else:
            place = self.last
        return (News([event for _, event in found], self.id_at(place)) if found else None), place

    def _changes_after(self, wanted: Wanted, place: int) -> Iterable[tuple[int, CountChanged]]:
        if wanted.tenants is not None:
            for tenant in dict.fromkeys(wanted.tenants):
                change = self._changes.get(tenant)
                if change is not None and change[0] > place:
                    yield change
            return
        for tenant, change in reversed(self._changes.items()):
            if change[0] <= place:
                return
            if not wanted.prefixes or tenant.startswith(wanted.prefixes):
                yield change


class NodeStates:
    """
    What is known of the nodes, to tell what has happened to them since.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._nodes = self._look()
        self._primary = view.primary()

    def _look(self) -> dict[int, tuple[bool, str | None]]:
        """
        Whether each node is up, and why it takes no writes.
        """
        found = {}
        for node in self._view.members():
            report = self._view.report(node)
            up = self._view.state(node) == "up"
            # What passes by itself is not worth an event.
            refuses = report.refuses if up and report is not None and not report.passing else None
            found[node] = up, refuses
        return found

    def changes(self) -> list[NodeChanged]:
        """
        What has happened since this was called last.
        """
        before, self._nodes = self._nodes, self._look()
        found = [NodeChanged(node, "removed") for node in before if node not in self._nodes]
        for node, (up, refuses) in self._nodes.items():
            was_up, refused = before.get(node, (False, None))
            if up != was_up:
                found.append(NodeChanged(node, "up" if up else "down"))
            if up and refuses != refused:
                found.append(
                    NodeChanged(node, "accepts") if refuses is None else NodeChanged(node, "refuses", refuses)
                )
        self._view.elect()
        primary = self._view.primary()
        if primary is not None and primary != self._primary:
            found.append(NodeChanged(primary, "primary"))
            self._primary = primary
        return found

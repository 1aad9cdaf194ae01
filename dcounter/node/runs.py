"""
The runs of all nodes: what is known of their openings, which may be folded, and what is lost of them.

A run is closed by the opening of the next one, which says how far it went. Closed runs that every member has
durably are folded: the position then names the run up to which everything is there, instead of each run.

What holds, after each call:

- `foldable` gives an opening only if every position that was passed in has all runs before it;
- of a node no more openings are kept than twice the runs that may be unfolded, and always the newest;
- what is lost stays lost: the set only grows.
"""

from collections.abc import Callable, Collection, Iterable, Iterator

from dcounter.protocol.position import LostRun, Opening, Position


class Runs:
    """
    What one node knows of the runs of all.

    :param most: runs of a node that may be unfolded at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._openings: dict[int, dict[int, Opening]] = {}
        self._lost: set[LostRun] = set()

    @property
    def lost(self) -> list[LostRun]:
        """
        What no member has any more, in order.
        """
        return sorted(self._lost)

    def learn(self, node: int, opening: Opening) -> None:
        """
        A node opened a run.
        """
        known = self._openings.setdefault(node, {})
        known[opening.run] = opening
        while len(known) > 2 * self._most:
            del known[min(known)]

    def learn_all(self, openings: Iterable[tuple[int, Iterable[Opening]]], lost: Iterable[LostRun]) -> None:
        """
        What another node knows.
        """
        for node, each_of in openings:
            for opening in each_of:
                self.learn(node, opening)
        self._lost.update(lost)

    def latest(self, node: int) -> int:
        """
        The latest run that a node is known to have opened; 0 if none is.
        """
        return max(self._openings.get(node, {}), default=0)

    def live(self, applied: Position) -> dict[int, list[Opening]]:
        """
        The openings that a peer may still need to fold, oldest first.
        """
        live = {
            node: [known[run] for run in sorted(known) if run >= applied.of(node).folded]
            for node, known in self._openings.items()
        }
        return {node: openings for node, openings in live.items() if openings}

    def names_lost(self, position: Position) -> bool:
        """
        Whether a position names something that was lost before its runs were folded.
        """
        return any(lost.takes(*entry) for lost in self._lost for entry in position.entries())

    def foldable(
        self, durable: Callable[[], Position], everywhere: Collection[Position], known: Position
    ) -> Iterator[tuple[int, Opening]]:
        """
        The openings up to which all is everywhere, the oldest first of each node.

        :param durable: what is durable here, asked anew each time: what was given before may be folded.
        :param everywhere: what is durable at each member.
        :param known: what any node is known to have.
        """
        for node, openings in self._openings.items():
            for run in sorted(openings):
                if run > durable().of(node).folded and self._complete(node, openings[run], everywhere, known):
                    yield node, openings[run]

    def folded_by(
        self, heard: Position, mine: Callable[[], tuple[Position, Position]]
    ) -> Iterator[tuple[int, Opening]]:
        """
        What a peer has folded and we can fold, too, since we have all of it.

        The node that folded knew that every member had it durably; this one may have been wiped since.

        :param mine: what is applied and what is durable here, asked anew each time.
        """
        for node, part in heard.nodes.items():
            applied, durable = mine()
            if part.folded > applied.of(node).folded:
                opening = self._openings.get(node, {}).get(part.folded)
                if opening is not None and self._complete(node, opening, [durable], applied):
                    yield node, opening

    def note_losses(self, node: int, opening: Opening, applied: Position) -> None:
        """
        Before runs of a node are folded up to an opening: see which of them ended in a loss.
        """
        # An opening before which no run was known is never folded to on its own, but passed over.
        for each in (*self._openings.get(node, {}).values(), opening):
            if each.wiped and applied.of(node).folded < each.run <= opening.run:
                self._lost.add(LostRun(node, each.previous, each.last, each.run))

    def _complete(
        self, node: int, opening: Opening, positions: Collection[Position], known: Position
    ) -> bool:
        """
        Whether all the positions have all runs before an opening.

        :param known: what any node is known to have; a node that lost its journal may have stated less.
        """
        if opening.previous == 0:
            return False
        last = max(opening.last, known.of(node).runs.get(opening.previous, 0))
        if any(p.number(node, opening.previous) < last for p in positions):
            return False
        for run, number in known.of(node).runs.items():
            # A node whose disk took back the end of its journal may not know a run between.
            if run < opening.run and any(p.number(node, run) < number for p in positions):
                return False
        if all(opening.previous <= p.of(node).folded for p in positions):
            return True
        before = self._openings[node].get(opening.previous)
        return before is not None and (before.previous == 0 or self._complete(node, before, positions, known))

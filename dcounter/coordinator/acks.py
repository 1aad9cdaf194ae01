"""
Waiting until what is stored is durable on as many nodes as the caller asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import assert_never

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dcounter.coordinator.view import View
from dcounter.errors import LinkLost
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol import messages
from dcounter.protocol.position import NodeId, Position
from dcounter.store import Ack

_STRONGEST_FIRST: Sequence[Ack] = ("all", "majority", "primary", "node")


class Acks:
    """
    The callers that wait for an acknowledgement level.

    :param links: node -> the link to it; removed members are deleted from it.
    :param view: the coordinator's picture of the nodes.
    """

    def __init__(
        self, links: Mapping[NodeId, NodeLink], view: View, *, limits: Limits, time: IReactorTime
    ) -> None:
        self._links = links
        self._view = view
        self._limits = limits
        self._time = time
        self._waiting: dict[Deferred[None], Callable[[float], bool]] = {}

    @property
    def busy(self) -> bool:
        """
        Whether a caller waits.
        """
        return bool(self._waiting)

    def tick(self, now: float) -> None:
        """
        Let the callers go on that have enough by now, or whose time is over.
        """
        for enough, over in list(self._waiting.items()):
            if over(now):
                enough.callback(None)

    def stop(self) -> None:
        """
        Let all go on, with what was reached.
        """
        for enough in list(self._waiting):
            enough.callback(None)

    async def wait(self, position: Position, ack: Ack, deadline: float) -> Ack:
        """
        Wait until a position is durable as asked, or until the deadline.

        :returns: what was asked, or the strongest that was reached instead.
        """
        there: set[NodeId] = set()
        if self._reaches(ack, there):
            return ack
        enough: Deferred[None] = Deferred()

        def at(reached: bool, node: NodeId) -> None:
            if reached:
                there.add(node)
            if not enough.called and self._reaches(ack, there):
                enough.callback(None)

        asking = [
            Deferred.fromCoroutine(self._durable_at(node, position, deadline)).addCallback(at, node)
            for node in self._links
        ]
        everybody = gatherResults(asking, consumeErrors=True)
        everybody.addCallback(lambda _: None if enough.called else enough.callback(None))
        everybody.addErrback(lambda why: why.trap(FirstError))
        if not enough.called:
            # A node that does not answer in time must not hold the caller, and another one may have
            # become the primary.
            self._waiting[enough] = lambda now: now >= deadline or self._reaches(ack, there)
        try:
            await enough
        finally:
            self._waiting.pop(enough, None)
            everybody.cancel()
        return next(level for level in (ack, *_STRONGEST_FIRST) if self._reaches(level, there))

    def _reaches(self, ack: Ack, there: set[NodeId]) -> bool:
        """
        Whether being durable at these nodes is what `ack` means; removed members do not count.
        """
        match ack:
            case "node":
                return True
            case "primary":
                # The one that was elected may be gone.
                self._view.elect()
                return self._view.primary() in there
            case "majority":
                return len(there & self._links.keys()) > len(self._links) // 2
            case "all":
                return there >= self._links.keys()
            case _:
                assert_never(ack)

    async def _durable_at(self, node: NodeId, position: Position, deadline: float) -> bool:
        if position.nodes.keys() == {node} or self._view.has_durable(node, position):
            return True
        while (left := deadline - self._time.seconds()) > 0:
            link = self._links.get(node)
            if link is None:
                # It was removed meanwhile, and no longer counts.
                return False
            make = partial(messages.Await, position=position, wait=int(left * 1000))
            # Then ask again: the node had no room for waiting questions, or is gone.
            with suppress(LinkLost):
                answer = await link.ask(make)
                if answer.reached:
                    return True
            await deferLater(self._time, min(left, self._limits.heartbeat_s))
        return False

"""
What all connections of a server share: its routes, its clock, and how many connections there may be.
"""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.web.resource import IResource

from dcounter.http.call import Api
from dcounter.http.callers import Guard
from dcounter.http.figures import Connections
from dcounter.http.routes import ShortWay


class Guest(Protocol):
    """
    A connection, as one of many.

    :ivar admitted: whether its requests are served.
    :ivar since: when its present wait began.
    """

    admitted: bool
    since: float
    transport: Any

    @property
    def waits(self) -> bool:
        """
        Whether it is the caller's turn to send a request, or the rest of its head.
        """

    def end(self) -> None:
        """
        Close it, after the answer if one is awaited.
        """


class Shared:
    """
    What all connections of a server share.

    :ivar api: what the routes answer from.
    :ivar figures: what counts the requests.
    :ivar now: the clock by which they are timed.
    :ivar access: logs them.
    :ivar short_way: finds the route of most requests.
    :ivar resource: answers the others.
    :ivar guard: refuses requests that web pages elsewhere have sent.
    :ivar methods: those that any route has.
    :ivar date: the time as HTTP writes it.
    :ivar seconds: the clock.
    :ivar call_later: the timers of the reactor.
    :ivar connections: those that are open.
    :ivar admitted: how many of them are served; the others have not sent a request yet.
    :ivar watching: those that are used for an answer that lasts. They count neither as open nor as served:
        there is a bound of their own.
    :ivar body_bytes: bytes of bodies that are held in memory.
    """

    def __init__(
        self,
        api: Api,
        *,
        short_way: ShortWay,
        resource: IResource,
        guard: Guard,
        methods: Collection[bytes],
        date: Callable[[], bytes],
        reactor: Any,
    ) -> None:
        self.api = api
        self.limits = api.limits
        self.figures = api.figures
        self.access = api.access
        self.figures.connections = self.count
        self.now = api.figures.seconds
        self.short_way = short_way
        self.resource = resource
        self.guard = guard
        self.methods = methods
        self.date = date
        self.seconds: Callable[[], float] = reactor.seconds
        self.call_later: Callable[..., IDelayedCall] = reactor.callLater
        self.connections: set[Guest] = set()
        self.admitted = 0
        self.watching: set[Guest] = set()
        self.body_bytes = 0
        self._full_until = 0.0

    def count(self) -> Connections:
        """
        How many connections there are.
        """
        watching = len(self.watching)
        here = len(self.connections) - watching
        return Connections(here, self.limits.max_connections, watching, self.body_bytes)

    def admit(self, guest: Guest) -> bool:
        """
        Let a connection in that has sent its first request.

        :returns: whether it may be served.
        """
        if self.admitted >= self.limits.max_connections and not self.make_room(admitted=True):
            return False
        guest.admitted = True
        self.admitted += 1
        return True

    def make_room(self, *, admitted: bool) -> bool:
        """
        Close the connection that has waited longest for a request, to make room for another caller.

        :param admitted: whether it must be one of those that are served.
        :returns: whether there was one.
        """
        now = self.seconds()
        if now < self._full_until:
            return False
        waiting = [each for each in self.connections if each.waits and each.admitted >= admitted]
        oldest = min(waiting, key=lambda each: each.since, default=None)
        if oldest is None or now - oldest.since < self.limits.yield_after_s:
            # To look at all of them for each caller in a flood would cost more than the callers.
            self._full_until = now + self.limits.yield_after_s / 10
            return False
        self.leave(oldest)
        oldest.end()
        return True

    def lasts(self, guest: Guest) -> None:
        """
        Count a connection as one with an answer that lasts.
        """
        self.admitted -= guest.admitted
        guest.admitted = False
        self.watching.add(guest)

    def leave(self, guest: Guest) -> None:
        """
        Count a connection no longer.
        """
        self.watching.discard(guest)
        self.connections.discard(guest)
        self.admitted -= guest.admitted
        guest.admitted = False

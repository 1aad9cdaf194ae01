"""
The listening port of a node: the first free one of its range, and another one when it is lost.

What holds, between any two events:

- the node listens, or looks for a free port once a second, unless it was told to stop;
- the loss of a port is noticed even if the reactor is not told: when connections drop, the node calls itself.
"""

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dcounter.links.address_book import Address, Found
from dcounter.node.progress import Progress, State

_log = Logger()

_CHECK_DELAY = 0.05
"""
Time (s) after a lost connection until the node looks whether its own port still answers.
"""

_UNHEARD = 3
"""
Unanswered calls to its own port in a row, of which it also heard nothing, after which the node takes the port
for lost.
"""

_SEARCH_PAUSE = 1.0
"""
Time (s) after which a node that found no free port looks again.
"""

_LASTING = (errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT)
"""
Errors that do not pass by themselves. A port that fails so does not count as taken; if all do, the node
cannot start.
"""

Listen = Callable[[int], IStreamServerEndpoint]
"""
Gives the endpoint to listen on a port.
"""


class ListenerUser(Protocol):
    """
    What uses a listener.
    """

    @property
    def full(self) -> bool:
        """
        Whether it takes no more connections at present.
        """

    def conversation(self) -> TwistedProtocol:
        """
        What speaks on a new connection.
        """

    def listening(self, port: int) -> None:
        """
        The node listens on this port now; 0: on none.
        """

    def progress(self, progress: Progress) -> None:
        """
        How the start goes.
        """


class _Connections(Factory):
    """
    Makes the conversations of one listening port, and tells when the port is lost.
    """

    noisy = False

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol | None:
        return self._listener.connection()

    def stopFactory(self) -> None:
        self._listener.lost(self)


class Listener:
    """
    Listens for one node, and goes on listening.

    :param node: its id.
    :param address: where it may listen.
    :param listen: gives the endpoint for a port.
    :param probe: finds out what answers on a port.
    """

    def __init__(
        self,
        node: int,
        address: Address,
        listen: Listen,
        probe: Callable[[int], Awaitable[Found]],
        user: ListenerUser,
        clock: IReactorTime,
    ) -> None:
        self._node = node
        self._address = address
        self._listen = listen
        self._probe = probe
        self._user = user
        self._clock = clock
        self._running = False
        self._factory: _Connections | None = None
        self._port: IListeningPort | None = None
        self._number = 0
        self._listened = False
        self._connections = 0
        self._unheard = 0
        self._seeking: Deferred[None] = succeed(None)
        self._check: IDelayedCall | None = None

    # Starting and stopping

    def start(self) -> None:
        """
        Listen, as soon as a port is free.
        """
        self._running = True
        self._seek(self._address.port)

    def stop_seeking(self) -> None:
        """
        Keep the port that it listens on, if any, but look for no other one.
        """
        self._running = False
        self._seeking.cancel()

    async def stop(self) -> None:
        """
        Listen no longer.
        """
        self.stop_seeking()
        if self._check is not None and self._check.active():
            self._check.cancel()
        self._factory = None
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
            self._port = None

    # Finding a port

    def _seek(self, first: int) -> None:
        self._seeking = Deferred.fromCoroutine(self._listen_from(first))
        self._seeking.addErrback(lambda why: why.trap(CancelledError))
        self._seeking.addErrback(lambda why: _log.failure("node {node} cannot listen", why, node=self._node))

    async def _listen_from(self, first: int) -> None:
        """
        Listen on the first free port of the range, beginning with `first`; as soon as there is one.
        """
        told = ""
        while (refused := await self._listen_once(first)) is not None:
            self._factory = None
            self._user.listening(0)
            ports = self._address.ports
            why = f"it cannot listen on any port from {ports[0]} to {ports[-1]}: {refused}"
            lasting = getattr(refused.socketError, "errno", None) in _LASTING
            if why != told:
                told = why
                state: State = "cannot start" if lasting and not self._listened else "waits"
                self._user.progress(Progress(state, why))
            await deferLater(self._clock, _SEARCH_PAUSE)
        self._listened = True
        self._user.progress(Progress("up"))

    async def _listen_once(self, first: int) -> CannotListenError | None:
        """
        Listen on the first free port.

        :returns: why there is none; `None` if it listens.
        """
        taken: list[int] = []
        refused: CannotListenError | None = None
        for port in self._address.ports_from(first):
            factory = self._factory = _Connections(self)
            try:
                self._port = await self._listen(port).listen(factory)
            except CannotListenError as error:
                if getattr(error.socketError, "errno", None) not in _LASTING:
                    taken.append(port)
                    refused = error
                elif refused is None:
                    refused = error
                continue
            self._number = port
            passed = f" ({_ranges(taken)} taken)" if taken else ""
            _log.info("node {node} listens on port {port}{passed}", node=self._node, port=port, passed=passed)
            self._user.listening(port)
            return None
        return refused

    # Connections, and the loss of the port

    def connection(self) -> TwistedProtocol | None:
        """
        What speaks on a new connection; `None` if there are too many.
        """
        self._connections += 1
        if self._user.full or self._factory is None:
            return None
        return self._user.conversation()

    def lost(self, factory: _Connections) -> None:
        """
        A listening port is gone; unless that was asked for, listen on the next one.
        """
        if factory is self._factory and self._port is not None and self._running:
            self._port = None
            _log.warn("node {node} lost its listener on port {port}", node=self._node, port=self._number)
            self._seek(self._number + 1)

    def check_soon(self) -> None:
        """
        A connection ended: see whether the port still answers.
        """
        if self._check is None and self._running:
            self._check = self._clock.callLater(_CHECK_DELAY, self._start_check)

    def _start_check(self) -> None:
        checking = Deferred.fromCoroutine(self._check_port())
        checking.addErrback(lambda why: _log.failure("node {node} cannot check itself", why, node=self._node))

    async def _check_port(self) -> None:
        """
        Whether our own port still answers: a listener that was closed underneath the reactor raises no event.

        On a busy machine our own answer may be late; then it is asked again. The port is not ours any more if
        another one answers, or if connections get there of which we never hear.
        """
        port = self._port
        # A full node would turn away itself.
        if port is None or self._user.full:
            self._check = None
            return
        before = self._connections
        found = await self._probe(self._number)
        self._check = None
        heard = self._connections > before
        self._unheard = 0 if heard or found == "it" else self._unheard + 1
        if found == "it" or port is not self._port or not self._running:
            return
        if heard or (found == "nothing in time" and self._unheard < _UNHEARD):
            self.check_soon()
        else:
            self._unheard = 0
            # Its end calls `lost`.
            await maybeDeferred(port.stopListening)


def _ranges(ports: Sequence[int]) -> str:
    """
    How ports are named in a message.
    """
    if len(ports) == 1:
        return f"{ports[0]} is"
    return f"{len(ports)} ports from {ports[0]} on are"

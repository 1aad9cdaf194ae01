"""
Keeps a daemon's own nodes running.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessProtocol, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.errors import NodeIsBusy, UnknownNode
from dcounter.node import Node

_log = Logger()

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
"""
Pauses (s) before a child that ended is started again; they double while it does not live long.
"""

_LONG_LIFE = 1.5
"""
Time (s) after which a child that ends is not thought to be unable to start: that shows within a second, and
counts may have to wait for what only that child holds.
"""


class InlineSupervisor(MultiService):
    """
    Nodes as services of this process.

    :param nodes: their ids.
    :param make: makes the service of a node, each time anew.
    """

    def __init__(self, nodes: Collection[int], make: Callable[[int], Node]) -> None:
        super().__init__()
        self._make = make
        self._nodes: dict[int, Node] = {}
        for node in nodes:
            self._add(node)

    def _add(self, node: int) -> None:
        service = self._nodes[node] = self._make(node)
        service.setServiceParent(self)

    async def restart(self, node: int) -> None:
        """
        Stop a node, once its peers have all it has, and start it again.

        :raises UnknownNode: it is not one of ours.
        :raises NodeIsBusy: it is being restarted already.
        """
        service = self._nodes[_known(node, self._nodes)]
        if service.parent is None:
            raise NodeIsBusy(f"node {node} is being restarted already")
        _log.info("restarting node {node}", node=node)
        stopped = service.disownServiceParent()
        if stopped is not None:
            await stopped
        if self.running:
            self._add(node)


class Spawn(Protocol):
    """
    Starts the process of a node.
    """

    def __call__(self, protocol: IProcessProtocol, node: int) -> IProcessTransport: ...


class _Child(ProcessProtocol):
    """
    One life of a node's process; its log becomes part of ours.
    """

    transport: IProcessTransport

    def __init__(self, node: int, ended: Callable[["_Child", str], None]) -> None:
        self.node = node
        self.ended: Deferred[None] = Deferred()
        self._tell = ended
        self._rest = b""

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            _log.info("{line}", line=line.decode(errors="replace"), log_system=f"node {self.node}")

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        if self._rest:
            self.outReceived(b"\n")
        self._tell(self, reason.getErrorMessage())
        self.ended.callback(None)


class ProcessSupervisor(Service):
    """
    Nodes as child processes, started again when they end.

    :param nodes: their ids.
    :param patience: time (s) for a node to stop in order before it is killed.
    """

    def __init__(self, nodes: Sequence[int], *, spawn: Spawn, clock: IReactorTime, patience: float) -> None:
        self._nodes = nodes
        self._spawn = spawn
        self._clock = clock
        self._patience = patience
        self._children: dict[int, _Child] = {}
        self._born: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._waiting: dict[int, IDelayedCall] = {}

    def startService(self) -> None:
        Service.startService(self)
        for node in self._nodes:
            self._start(node)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        for call in self._waiting.values():
            call.cancel()
        self._waiting.clear()
        stopping = gatherResults([self._stop(child) for child in list(self._children.values())])
        return stopping.addCallback(lambda _: None)

    async def restart(self, node: int) -> None:
        """
        Stop a node, once its peers have all it has, and start it again.

        :raises UnknownNode: it is not one of ours.
        :raises NodeIsBusy: it is being started already.
        """
        child = self._children.get(_known(node, self._nodes))
        if child is None:
            raise NodeIsBusy(f"node {node} is being started already")
        _log.info("restarting node {node}", node=node)
        self._pauses[node] = 0.0
        await self._stop(child)

    def _start(self, node: int) -> None:
        self._waiting.pop(node, None)
        self._born[node] = self._clock.seconds()
        child = _Child(node, self._ended)
        try:
            self._spawn(child, node)
        except OSError as error:
            # No memory, or no descriptor is left: perhaps later.
            self._start_again(node, f"{error}.")
        else:
            self._children[node] = child

    def _ended(self, child: _Child, why: str) -> None:
        del self._children[child.node]
        if self.running:
            self._start_again(child.node, why)

    def _start_again(self, node: int, why: str) -> None:
        lived = self._clock.seconds() - self._born[node]
        pause = _FIRST_PAUSE if lived > _LONG_LIFE else self._pauses.get(node, _FIRST_PAUSE)
        self._pauses[node] = max(_FIRST_PAUSE, min(2 * pause, _LONGEST_PAUSE))
        _log.warn(
            "the process of node {node} ended: {why} Starting it again in {pause:g} s",
            node=node,
            why=why,
            pause=pause,
        )
        self._waiting[node] = self._clock.callLater(pause, self._start, node)

    def _stop(self, child: _Child) -> Deferred[None]:
        _signal(child, "TERM")
        kill = self._clock.callLater(self._patience, _signal, child, "KILL")
        done: Deferred[None] = Deferred()

        def ended(_: None) -> None:
            if kill.active():
                kill.cancel()
            done.callback(None)

        child.ended.addCallback(ended)
        return done


def _signal(child: _Child, name: str) -> None:
    try:
        child.transport.signalProcess(name)
    except ProcessExitedAlready:
        _log.debug("node {node} ended before it was told to", node=child.node)


def _known(node: int, nodes: Collection[int]) -> int:
    if node not in nodes:
        raise UnknownNode(f"there is no node {node}, only nodes {sorted(nodes)}")
    return node

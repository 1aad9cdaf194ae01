"""
Keeps a daemon's own nodes running.
"""

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Protocol

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessProtocol, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from dcounter.daemon.log_lines import RELAYED, from_json
from dcounter.errors import NodeIsBusy, UnknownNode
from dcounter.node.progress import Progress, Tell
from dcounter.node.service import Node

_log = Logger()

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
"""
Pauses (s) before a child that ended is started again; they double while its lives are short.
"""

_LONG_LIFE = 1.5
"""
A child that lived for longer than this (s) was able to start, so it is started again after the shortest
pause: counts may be waiting for data that only this child holds.
"""

_RETRY = 30.0
"""
Time (s) after which a node that cannot start is tried again: an operator may have removed the cause. If not,
nothing is logged again.
"""

_TURN = 10.0
"""
Time (s) after which a starting node no longer keeps the next ones waiting, although it is not up.
"""

_LINE = 64 * 1024
"""
Longest line (bytes) of a child's log; a longer one is split.
"""

PROGRESS_DESCRIPTOR = 3
"""
The descriptor on which a child reports the progress of its start.
"""

Between = Callable[[], Awaitable[None]]
"""
Something to do while a node does not run.
"""


class Troubles:
    """
    The reasons why nodes do not start: each is logged once, and listed for as long as it lasts.

    :param nodes: all nodes of this daemon.
    :param hopeless: called when every node has said that it cannot start.
    """

    def __init__(self, nodes: Collection[int], hopeless: Callable[[], None]) -> None:
        self._nodes = nodes
        self._hopeless = hopeless
        self._reasons: dict[int, Progress] = {}
        self._any_up = False

    def __call__(self) -> list[str]:
        """
        One sentence for each node that does not start.
        """
        return [reason.sentence(node) for node, reason in sorted(self._reasons.items())]

    def reported(self, node: int, progress: Progress) -> None:
        """
        Note the progress that a node reported.
        """
        if progress.state == "up":
            self._any_up = True
            self._reasons.pop(node, None)
        elif self._reasons.get(node) != progress:
            self._reasons[node] = progress
            _log.error("{sentence}", sentence=progress.sentence(node))
        if not self._any_up and all(map(self.is_lasting, self._nodes)):
            self._hopeless()

    def is_lasting(self, node: int) -> bool:
        """
        Whether the node said that it cannot start.
        """
        return node in self._reasons and self._reasons[node].state == "cannot start"

    def clear(self, node: int) -> None:
        """
        Drop the reason of a node that is started anew; if it still holds, it is logged again.
        """
        self._reasons.pop(node, None)


class InlineSupervisor(MultiService):
    """
    Runs nodes as services of this process.

    :param nodes: their ids.
    :param make: makes a new service for a node, given the function to which it reports its progress.
    :param hopeless: called when every node has said that it cannot start.
    :ivar troubles: the reasons why nodes do not start.
    """

    def __init__(
        self,
        nodes: Collection[int],
        make: Callable[[int, Tell], Node],
        *,
        clock: IReactorTime,
        hopeless: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._make = make
        self._clock = clock
        self._waiting: dict[int, IDelayedCall] = {}
        self.troubles = Troubles(nodes, hopeless)
        self._nodes: dict[int, Node] = {}
        for node in nodes:
            self._add(node)

    def _add(self, node: int) -> None:
        service = self._nodes[node] = self._make(node, partial(self._on_progress, node))
        service.setServiceParent(self)

    def stopService(self) -> Deferred[None]:
        for call in self._waiting.values():
            call.cancel()
        self._waiting.clear()
        return super().stopService()  # type: ignore[no-any-return]

    async def restart(self, node: int, between: Between | None = None) -> None:
        """
        Stop a node, once its peers have all it has, and start it again.

        :param between: what to do while it does not run. If that fails, the node is started all the same.
        :raises UnknownNode: it is not one of ours.
        :raises NodeIsBusy: it is being restarted already.
        """
        service = self._nodes[_known(node, self._nodes)]
        if service.parent is None:
            raise NodeIsBusy(f"node {node} is being restarted already")
        _log.info("restarting node {node}", node=node)
        self.troubles.clear(node)
        if node in self._waiting:
            self._waiting.pop(node).cancel()
        await self._replace(node, between)

    def _on_progress(self, node: int, progress: Progress) -> None:
        self.troubles.reported(node, progress)
        if self.troubles.is_lasting(node) and node not in self._waiting and self.running:
            self._waiting[node] = self._clock.callLater(_RETRY, self._retry, node)

    def _retry(self, node: int) -> None:
        del self._waiting[node]
        retrying = Deferred.fromCoroutine(self._replace(node))
        retrying.addErrback(lambda why: _log.failure("node {node} was not started again", why, node=node))

    async def _replace(self, node: int, between: Between | None = None) -> None:
        stopped = self._nodes[node].disownServiceParent()
        if stopped is not None:
            await stopped
        try:
            if between is not None and self.running:
                await between()
        finally:
            if self.running:
                self._add(node)


class Spawn(Protocol):
    """
    Starts the process of a node.
    """

    def __call__(self, protocol: IProcessProtocol, node: int) -> IProcessTransport: ...


class _Child(ProcessProtocol):
    """
    One process of a node, from start to end; its log becomes part of ours.
    """

    transport: IProcessTransport

    def __init__(
        self,
        node: int,
        on_progress: Callable[[int, Progress], None],
        on_end: Callable[["_Child", str], None],
    ) -> None:
        self.node = node
        self.ended: Deferred[None] = Deferred()
        self._on_progress = on_progress
        self._on_end = on_end
        self.cannot_start = False
        self.restarted = False
        self._rests: dict[int, bytes] = {}

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, rest = (self._rests.get(childFD, b"") + data).split(b"\n")
        if len(rest) > _LINE:
            lines.append(rest)
            rest = b""
        self._rests[childFD] = rest
        for line in lines:
            if childFD != PROGRESS_DESCRIPTOR:
                self._log_line(line)
            elif (progress := Progress.from_line(line)) is not None:
                self.cannot_start = progress.state == "cannot start"
                self._on_progress(self.node, progress)

    def processEnded(self, reason: Failure) -> None:
        for descriptor, rest in self._rests.items():
            if rest:
                self.childDataReceived(descriptor, b"\n")
        self._on_end(self, reason.getErrorMessage())
        self.ended.callback(None)

    def _log_line(self, line: bytes) -> None:
        record = from_json(line, self.node)
        if record is None:
            # What the interpreter itself says, such as before there is a log.
            _log.warn("{line}", line=line.decode(errors="replace"), log_node=self.node)
        else:
            _log.emit(
                LogLevel.levelWithName(record.level), "{line}", line=record.sentence, **{RELAYED: record}
            )


class ProcessSupervisor(Service):
    """
    Runs nodes as child processes, and starts them again when they end.

    They start in turns, because all at once would slow each other down too much to be ready in time.

    :param nodes: their ids.
    :param patience: time (s) that a node has to stop in order before it is killed.
    :param at_once: how many nodes may start at the same time.
    :param hopeless: called when every node has said that it cannot start.
    :ivar troubles: the reasons why nodes do not start.
    """

    def __init__(
        self,
        nodes: Sequence[int],
        *,
        spawn: Spawn,
        clock: IReactorTime,
        patience: float,
        at_once: int,
        hopeless: Callable[[], None] = lambda: None,
    ) -> None:
        self.troubles = Troubles(nodes, hopeless)
        self._at_once = at_once
        self._queue: deque[int] = deque()
        self._turns: dict[int, IDelayedCall] = {}
        self._nodes = nodes
        self._spawn = spawn
        self._clock = clock
        self._patience = patience
        self._children: dict[int, _Child] = {}
        self._born: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._waiting: dict[int, IDelayedCall] = {}
        self._kept_down: set[int] = set()

    def startService(self) -> None:
        Service.startService(self)
        self._queue.extend(self._nodes)
        self._start_some()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        self._queue.clear()
        for calls in (self._waiting, self._turns):
            for call in calls.values():
                call.cancel()
            calls.clear()
        stopping = gatherResults([self._stop(child) for child in list(self._children.values())])
        return stopping.addCallback(lambda _: None)

    def tell(self, word: str, more: str) -> None:
        """
        Give all processes an instruction: see `dcounter.daemon.instructions`.
        """
        for child in self._children.values():
            # One that ends reads no more; the next one of that node has it from its environment.
            with contextlib.suppress(KeyError):
                child.transport.writeToChild(0, f"{word} {more}\n".encode())

    async def restart(self, node: int, between: Between | None = None) -> None:
        """
        Stop a node, once its peers have all it has, and start it again.

        :param between: what to do while it does not run. If that fails, the node is started all the same.
        :raises UnknownNode: it is not one of ours.
        :raises NodeIsBusy: it is being started already.
        """
        child = self._children.get(_known(node, self._nodes))
        hopeless = self.troubles.is_lasting(node) and between is None
        if child is None and not (hopeless and node in self._waiting):
            raise NodeIsBusy(f"node {node} is being started already")
        _log.info("restarting node {node}", node=node)
        self._pauses[node] = 0.0
        self.troubles.clear(node)
        if child is None:
            self._waiting.pop(node).cancel()
            self._come_next(node)
        else:
            # It may just have said that it cannot start, and be about to end.
            child.restarted = True
            await self._stop_for(child, between)

    async def _stop_for(self, child: _Child, between: Between | None) -> None:
        if between is None:
            await self._stop(child)
            return
        node = child.node
        self._kept_down.add(node)
        try:
            await self._stop(child)
            if self.running:
                await between()
        finally:
            self._kept_down.discard(node)
            if self.running:
                self._come_next(node)

    def _come_next(self, node: int) -> None:
        self._waiting.pop(node, None)
        self._queue.append(node)
        self._start_some()

    def _start_some(self) -> None:
        while self._queue and len(self._turns) < self._at_once:
            self._start(self._queue.popleft())

    def _end_turn(self, node: int) -> None:
        turn = self._turns.pop(node, None)
        if turn is not None:
            if turn.active():
                turn.cancel()
            self._start_some()

    def _heard(self, node: int, progress: Progress) -> None:
        self.troubles.reported(node, progress)
        self._end_turn(node)

    def _start(self, node: int) -> None:
        self._born[node] = self._clock.seconds()
        self._turns[node] = self._clock.callLater(_TURN, self._end_turn, node)
        child = _Child(node, self._heard, self._ended)
        try:
            self._spawn(child, node)
        except OSError as error:
            # Out of memory or descriptors: it may work later.
            self._start_again(node, f"{error}.")
            self._end_turn(node)
        else:
            self._children[node] = child

    def _ended(self, child: _Child, why: str) -> None:
        del self._children[child.node]
        if not self.running:
            return
        if child.node in self._kept_down:
            pass
        elif child.cannot_start and not child.restarted:
            # It has already said why.
            self._waiting[child.node] = self._clock.callLater(_RETRY, self._come_next, child.node)
        else:
            if self.troubles.is_lasting(child.node) or self._lived(child.node) > _LONG_LIFE:
                self.troubles.clear(child.node)
            self._start_again(child.node, why)
        self._end_turn(child.node)

    def _start_again(self, node: int, why: str) -> None:
        pause = _FIRST_PAUSE if self._lived(node) > _LONG_LIFE else self._pauses.get(node, _FIRST_PAUSE)
        self._pauses[node] = max(_FIRST_PAUSE, min(2 * pause, _LONGEST_PAUSE))
        _log.warn(
            "the process of node {node} ended: {why} Starting it again in {pause:g} s",
            node=node,
            why=why,
            pause=pause,
        )
        if pause >= _LONGEST_PAUSE:
            # It ends before it can say why.
            self.troubles.reported(node, Progress("waits", f"its process ends after every start: {why}"))
        self._waiting[node] = self._clock.callLater(pause, self._come_next, node)

    def _lived(self, node: int) -> float:
        """
        How long (s) the process of a node has run.
        """
        return self._clock.seconds() - self._born[node]

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

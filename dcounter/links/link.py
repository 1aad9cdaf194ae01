"""
Connections between nodes and coordinators, and one persistent connection to a node.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.errors import HandshakeRefused, LinkLost, MalformedMessage, PeerError, WrongNode
from dcounter.limits import Limits
from dcounter.links.throttle import Throttle
from dcounter.protocol import codec, messages
from dcounter.protocol.handshake import Caller, Identity, Role

_log = Logger()

_Answer = TypeVar("_Answer", messages.Stored, messages.Counted, messages.Awaited)

_FIRST_PAUSE = 0.05
_LAST_PAUSE = 0.2
"""
Times (s) between two attempts to reach a node at one port: the first, and the longest.
"""

_TOLD_SEARCH = 3
"""
After so many searches in vain the operator is told: a node that starts is found before.
"""

_HANDSHAKE_LINE = 8 * 1024
"""
Longest line (bytes) of a stranger: the handshake of a thousand members fits.
"""

_LINGER = 1.0
"""
Time (s) in which the other end may read why it is cut off.
"""

_KNOCKS = 16
"""
Ports that are asked at once where a node is looked for; a few strangers among them do not matter.
"""

_COMPLAINTS = 10
_COMPLAINTS_INTERVAL = 10.0
"""
So many refused connections are logged in so much time (s), per process; of more, the number.
"""

_TOLD_PORTS = 3
"""
Ports whose answers one line of the log tells.
"""

_SHOWN = 200
"""
Characters that are shown of what a stranger said.
"""

_NO_ANSWER = "no answer to the handshake in time"

_LATE = messages.Farewell("")
"""
This very one: nothing was said in time, which does not mean that the node is not there.
"""

Found = Literal["it", "another", "nothing in time"]
"""
What was found on a port where a node was looked for; `another` also if nothing listens there.
"""

_STOPPING = "stopping"
_IN_ORDER = (_STOPPING, "the node says: the node is stopping", "the node says: stopping")
"""
Why connections end that nobody has to wonder about.
"""

Connect = Callable[[str, int], IStreamClientEndpoint]
"""
Gives the endpoint of a port of a machine.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a node is.

    :ivar host: the machine.
    :ivar port: the port where the node probably listens.
    :ivar ports: the ports on which it may listen.
    """

    host: str
    port: int
    ports: range

    @classmethod
    def from_port(cls, host: str, port: int, ports: int) -> "Address":
        """
        A node that tries so many ports, this one first.
        """
        return cls(host, port, range(port, min(port + ports, 65_536)))

    def ports_from(self, port: int) -> Sequence[int]:
        """
        The ports of the range from that one on, those below it last.
        """
        return sorted(self.ports, key=lambda each: (each < port, each))


class Complaints:
    """
    What the operator is told about connections that were refused: strangers must not fill the log.

    :param seconds: the clock (s).
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._throttle = Throttle(_COMPLAINTS, _COMPLAINTS_INTERVAL, seconds)

    def refused(self, peer: IAddress, error: Exception) -> None:
        """
        A connection was refused.
        """
        self.settle()
        if self._throttle.passes():
            _log.warn("closing the connection with {peer}: {error}", peer=peer, error=error)

    def settle(self, *, at_once: bool = False) -> None:
        """
        Tell how many more there were, if there were some and it is time.
        """
        more = self._throttle.held_back(at_once=at_once)
        if more:
            _log.warn(
                "refused {more} more connections in the last {seconds:g} s",
                more=more,
                seconds=self._throttle.interval,
            )


@implementer(IPushProducer)
class Conversation(TwistedProtocol):
    """
    One connection that speaks the messages of `dcounter.protocol.messages`, one per line.

    Whatever the other end does wrong costs this connection only. Subclasses say what a message means.

    :param clock: for the time-outs.
    """

    def __init__(self, limits: Limits, clock: IReactorTime, complaints: Complaints) -> None:
        self._limits = limits
        self._clock = clock
        self._complaints = complaints
        self._splitter = codec.LineSplitter(_HANDSHAKE_LINE)
        self._welcomed = False
        self._timeout: IDelayedCall | None = None
        self.paused = False
        self.ended = False

    @property
    def tcp(self) -> ITCPTransport:
        """
        The transport, once there is one.
        """
        return cast(ITCPTransport, self.transport)

    @property
    def _consumer(self) -> IConsumer:
        return cast(IConsumer, self.transport)

    def connectionMade(self) -> None:
        self.tcp.setTcpNoDelay(True)
        self._consumer.registerProducer(self, True)
        self._start_timeout(self._limits.handshake, lambda: self.close("no handshake in time"))

    def dataReceived(self, data: bytes) -> None:
        try:
            while data:
                # Until the handshake is over, each line may be the one that welcomes longer ones.
                end = 0 if self._welcomed else data.find(b"\n") + 1
                first, data = (data[:end], data[end:]) if end else (data, b"")
                for line in self._splitter.feed(first):
                    if self.ended:
                        return
                    self.messageReceived(codec.decode(line))
        except PeerError as error:
            self.refuse(error)

    def messageReceived(self, message: messages.Message) -> None:
        """
        A message arrived.

        :raises PeerError: it does not belong here; the connection is closed.
        """
        raise MalformedMessage(f"{type(message).__name__} was not expected")

    def refuse(self, error: PeerError) -> None:
        """
        The other end broke the protocol: hang up, and tell the operator.
        """
        self._complaints.refused(self.tcp.getPeer(), error)
        self._close_for(error)

    def _close_for(self, error: PeerError) -> None:
        self.close(str(error), error.code if isinstance(error, HandshakeRefused) else "")

    def welcomed(self) -> None:
        """
        The handshake is over: longer lines are welcome.
        """
        self._welcomed = True
        self._splitter.limit = self._limits.line
        self._stop_timeout()

    def send(self, message: messages.Message) -> None:
        """
        Write a message.
        """
        self.send_line(codec.encode(message))

    def send_line(self, line: bytes) -> None:
        """
        Write a message that is encoded already.
        """
        self.tcp.writeSequence((line, b"\n"))

    def close(self, reason: str, code: str = "") -> None:
        """
        Hang up, telling the other end why.

        For us the connection has ended at once; an end that does not read cannot keep it.

        :param code: the same for programs, see `messages.Farewell`.
        """
        if not self.ended:
            self.send(messages.Farewell(reason, code))
            self._consumer.unregisterProducer()
            self.tcp.loseConnection()
            self._end(reason)
            self._start_timeout(_LINGER, self.tcp.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(reason.getErrorMessage())
        self._stop_timeout()

    def connectionEnded(self, reason: str) -> None:
        """
        No more messages will be exchanged; called once.
        """

    def _end(self, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self.connectionEnded(reason)

    def _start_timeout(self, seconds: float, action: Callable[[], object]) -> None:
        self._stop_timeout()
        self._timeout = self._clock.callLater(seconds, action)

    def _stop_timeout(self) -> None:
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()

    # IPushProducer: the transport's buffer is full, and has room again.

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.paused = True


class LinkUser(Protocol):
    """
    Whoever a link tells what happens.
    """

    def linkUp(self, link: "Link") -> None:
        """
        The node is connected and has proved itself.
        """

    def linkDown(self, link: "Link") -> None:
        """
        The connection is gone.
        """

    def linkWritable(self, link: "Link") -> None:
        """
        The connection takes more again.
        """

    def linkReceived(self, link: "Link", message: messages.Message) -> None:
        """
        A message that answers no request arrived.

        :raises PeerError: it does not belong here; the connection is closed.
        """


class _Call(Conversation):
    """
    The calling side of a conversation.

    :ivar refusal: why the other end, or we, ended the handshake; empty if nobody said it.
    """

    def __init__(self, directory: "Directory", caller: Caller) -> None:
        super().__init__(directory.limits, directory.clock, directory.complaints)
        self._caller = caller
        self._state: Literal["hello", "proof", "welcome"] = "hello"
        self.refusal = messages.Farewell("")

    def connectionMade(self) -> None:
        super().connectionMade()
        # A node would answer at once: what is silent for so long is none, or as good as gone.
        wait = min(self._limits.handshake, self._limits.suspicion)
        self._start_timeout(wait, lambda: self.close(_NO_ANSWER))
        self.send(self._caller.hello)

    def messageReceived(self, message: messages.Message) -> None:
        if isinstance(message, messages.Farewell):
            self.refusal = message
            self.close(f"the node says: {message.reason}")
            return
        if isinstance(message, messages.Challenge) and self._state == "hello":
            self.send(self._caller.answer(message))
            self._state = "proof"
        elif isinstance(message, messages.Welcome) and self._state == "proof":
            self._state = "welcome"
            self.welcomed()
        elif self._state == "welcome":
            self.answerReceived(message)
        else:
            super().messageReceived(message)

    def refuse(self, error: PeerError) -> None:
        if self._state == "welcome":
            super().refuse(error)
        else:
            # Whoever looks for a node meets others.
            self.refusal = messages.Farewell(str(error))
            self.close(str(error))

    @property
    def proved(self) -> bool:
        """
        Whether the other end has proved that it is a member: then what it says counts.
        """
        return self._state != "hello"

    @property
    def instance(self) -> str:
        """
        The process that answered.
        """
        return self._caller.found

    def answerReceived(self, message: messages.Message) -> None:
        """
        A message after the handshake.
        """


class _LinkCall(_Call):
    def __init__(self, directory: "Directory", caller: Caller, link: "Link") -> None:
        super().__init__(directory, caller)
        self._link = link

    def welcomed(self) -> None:
        super().welcomed()
        self._link.callWelcomed(self)

    def answerReceived(self, message: messages.Message) -> None:
        self._link.callReceived(message)

    def connectionEnded(self, reason: str) -> None:
        self._link.callEnded(self, reason, welcome=self._state == "welcome")

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._link.callWritable()


class _Knock(_Call):
    """
    A handshake and nothing else: does the node answer there?

    :ivar found: `None` if it does, else why not, as `messages.Farewell` says it.
    """

    def __init__(self, directory: "Directory", caller: Caller) -> None:
        super().__init__(directory, caller)
        self.found: Deferred[messages.Farewell | None] = Deferred(self._abandon)
        self._wanted = True

    def welcomed(self) -> None:
        super().welcomed()
        self._answer(None)
        self.close("only asking who is there")

    def connectionEnded(self, reason: str) -> None:
        self._answer(_LATE if reason == _NO_ANSWER else self.refusal)

    def _answer(self, found: messages.Farewell | None) -> None:
        if self._wanted:
            self._wanted = False
            self.found.callback(found)

    def _abandon(self, found: "Deferred[messages.Farewell | None]") -> None:
        self._wanted = False
        self.close("no longer wanted")


class Answers:
    """
    What ports answered where a node was looked for and not found.

    Other programs and other nodes listen in the same range: of them only what the port says on which the
    node is expected, and what refused us as a node of dcounter does.

    :param expected: that port.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._said: dict[int, messages.Farewell] = {}

    def heard(self, port: int, said: messages.Farewell) -> None:
        """
        A port answered, but not as the node.
        """
        refused = said.code not in ("", WrongNode.code)
        if said.reason and (refused or port == self._expected):
            self._said[port] = said

    def __str__(self) -> str:
        ports = sorted(self._said, key=lambda port: (port != self._expected, port))[:_TOLD_PORTS]
        return "".join(f'. Port {port} answered: "{_shown(self._said[port].reason)}"' for port in ports)


def _shown(text: str) -> str:
    """
    What a stranger said, as it may stand in a line of the log.
    """
    return "".join(each if each.isprintable() else "?" for each in text[:_SHOWN])


class Directory:
    """
    What a process needs to reach the nodes of its cluster, and to be recognised.

    :param role: what this process is.
    :param node: its node id; `None` for a coordinator.
    :param nonce: gives a new random text, at least 32 characters.
    :param addresses: node id -> where that node is.
    :param instance: random text of this process, if it is a node.
    :param complaints: what the operator is told about refused connections, for all of this process.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        role: Role,
        node: int | None,
        addresses: Mapping[int, Address],
        connect: Connect,
        nonce: Callable[[], str],
        limits: Limits,
        clock: IReactorTime,
        instance: str = "",
        complaints: Complaints | None = None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.instance = instance
        self.complaints = complaints or Complaints(clock.seconds)
        self.addresses = addresses
        self._identity = identity
        self._role = role
        self._node = node
        self._connect = connect
        self._nonce = nonce

    def endpoint(self, node: int, port: int) -> IStreamClientEndpoint:
        """
        The endpoint of a port of the machine where a node is.
        """
        return self._connect(self.addresses[node].host, port)

    def caller(self, to: int, port: int, *, probe: bool = False) -> Caller:
        """
        Our side of a handshake with a node.

        :param port: the port that is called.
        """
        role = "probe" if probe and self._node is not None else self._role
        return Caller(
            self._identity,
            role=role,
            node=self._node,
            to=to,
            port=port,
            nonce=self._nonce(),
            instance=self.instance,
        )

    async def locate(self, node: int, port: int, answers: Answers) -> int | None:
        """
        The port of the range where that node listens, looked for from `port` on; `None` if on none.

        Some ports are asked at once: strangers that listen there and say nothing must not hold it up.

        :param answers: is told what the others said.
        """
        ports = iter(self.addresses[node].ports_from(port))
        found: Deferred[int | None] = Deferred()

        async def look() -> None:
            for each in ports:
                said = await self._knock(node, each)
                if said is not None:
                    answers.heard(each, said)
                elif not found.called:
                    found.callback(each)
                if found.called:
                    return

        looking = [Deferred.fromCoroutine(look()) for _ in range(_KNOCKS)]
        everybody = gatherResults(looking, consumeErrors=True)
        everybody.addCallbacks(
            lambda _: None if found.called else found.callback(None),
            lambda why: None if found.called else found.errback(why.value.subFailure),
        )
        # No `finally`: the garbage collector would run it, too, when nobody waits for this any more.
        try:
            port_found = await found
        except Exception:
            everybody.cancel()
            raise
        everybody.cancel()
        return port_found

    async def knock(self, node: int, port: int) -> Found:
        """
        What is on a port where that node listened.
        """
        said = await self._knock(node, port)
        if said is None:
            return "it"
        return "nothing in time" if said is _LATE else "another"

    async def _knock(self, node: int, port: int) -> messages.Farewell | None:
        """
        `None` if that node listens on that port, else what was said there.
        """
        knock = _Knock(self, self.caller(node, port, probe=True))
        factory = Factory.forProtocol(lambda: knock)
        factory.noisy = False
        try:
            await self.endpoint(node, port).connect(factory)
        except TimeoutError:
            return _LATE
        except (ConnectError, DNSLookupError):
            return messages.Farewell("")
        return await knock.found


@implementer(IStreamClientEndpoint)
class _NodeEndpoint:
    """
    Finds a node, however long it takes: on the port where it was last known, else on the others of its range.

    The one port is tried often, for it is where a node that starts again will be; all the others, seldom.
    Neither waits for the other: a stranger on a port of the range that says nothing holds up a search.

    :param jitter: gives a random number around 0, for the pauses between attempts.
    :ivar port: where the node is thought to listen.
    :ivar called: the port that is being called, or was called last.
    :ivar doubtful: another one was found there, which is tried seldom.
    """

    def __init__(self, node: int, directory: Directory, jitter: Callable[[], float]) -> None:
        self._node = node
        self._directory = directory
        self._limits = directory.limits
        self._clock = directory.clock
        self._pause = backoffPolicy(_FIRST_PAUSE, _LAST_PAUSE, factor=2.0, jitter=jitter)
        self._next_search = float("-inf")
        self._next_doubtful = float("-inf")
        self._searching: Deferred[None] = succeed(None)
        self._searches = 0
        self._told = ""
        self.port = self.called = directory.addresses[node].port
        self.doubtful = False

    def __repr__(self) -> str:
        return f"<node {self._node}, last seen on port {self.port}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._find(protocolFactory))

    async def _find(self, factory: IProtocolFactory) -> IProtocol:
        attempts = 0
        while True:
            now = self._clock.seconds()
            if (self.doubtful or attempts) and self._searching.called and now >= self._next_search:
                await self._searching
                self._searching = Deferred.fromCoroutine(self._search())
            if not self.doubtful or now >= self._next_doubtful:
                self.called = self.port
                with contextlib.suppress(ConnectError, DNSLookupError):
                    return await self._directory.endpoint(self._node, self.called).connect(factory)
            attempts += 1
            if attempts > 1:
                await deferLater(self._clock, self._pause(attempts - 2))

    async def _search(self) -> None:
        """
        Look on all ports of the range.
        """
        answers = Answers(self.port)
        port = await self._directory.locate(self._node, self.port, answers)
        self._next_search = self._clock.seconds() + self._limits.search
        if port is not None:
            self.moved(port)
        else:
            self._missed(answers)

    def refused(self, said: messages.Farewell) -> None:
        """
        The port that was called answered, but not as the node.
        """
        self.doubt()
        answers = Answers(self.called)
        answers.heard(self.called, said)
        if said.code:
            self._missed(answers)

    def doubt(self) -> None:
        """
        The node is not, or may not be, where it is thought to listen.
        """
        self.doubtful = True
        self._next_doubtful = self._clock.seconds() + self._limits.search

    def _missed(self, answers: Answers) -> None:
        """
        The node was not found once more: tell it after a while, and again when the answers are other ones.
        """
        self._searches += 1
        text = f"on port {self.port} and on the rest of its range; still searching{answers}"
        if self._searches >= _TOLD_SEARCH and text != self._told:
            self._told = text
            say = _log.warn if str(answers) else _log.info
            say("node {node} is unreachable {text}", node=self._node, text=text)

    def reached(self) -> None:
        """
        The node was found, and let us in.
        """
        self._searches = 0
        self._told = ""
        self.search_no_longer()

    def search_no_longer(self) -> None:
        """
        End a search that is under way.
        """
        self._searching.cancel()
        self._searching.addErrback(lambda why: cast(None, why.trap(CancelledError)))

    def moved(self, port: int) -> None:
        """
        The node is known to listen there now.
        """
        self.port = port
        self.doubtful = False


class Link(ClientService):
    """
    A persistent connection to one node, made again when it is lost.

    :param refused: is told when a member that has proved itself does not let us in, and why.
    :ivar node: the node's id.
    :ivar up: whether the node is connected and has proved itself.
    :ivar instance: the process that is connected, or was last.
    """

    def __init__(
        self,
        node: int,
        *,
        directory: Directory,
        user: LinkUser,
        jitter: Callable[[], float],
        refused: Callable[[int, messages.Farewell], object] = lambda _, __: None,
    ) -> None:
        self.node = node
        self.up = False
        self.instance = ""
        self._user = user
        self._refused = refused
        self._directory = directory
        self._endpoint = _NodeEndpoint(node, directory, lambda: _FIRST_PAUSE * jitter())
        self._call: _LinkCall | None = None
        self._answers: dict[int, tuple[type[messages.Message], Deferred[Any]]] = {}
        self._last_request = 0
        super().__init__(
            self._endpoint,
            _LinkFactory(self),
            # After a connection is lost; until there is another one, the endpoint has its own pauses.
            retryPolicy=lambda _: _FIRST_PAUSE * (1 + jitter()),
            clock=directory.clock,
        )

    @property
    def address(self) -> str:
        """
        Where the node was last known to listen.
        """
        return f"{self._directory.addresses[self.node].host}:{self._endpoint.port}"

    @property
    def host(self) -> str:
        """
        The machine where the node is.
        """
        return self._directory.addresses[self.node].host

    @property
    def paused(self) -> bool:
        """
        Whether the connection takes no more at present.
        """
        return self._call is None or self._call.paused

    def moved(self, port: int) -> None:
        """
        The node said that it listens there now.
        """
        self._endpoint.moved(port)

    def ask(self, make: Callable[[int], messages.Message], expected: type[_Answer]) -> Deferred[_Answer]:
        """
        Send a request.

        :param make: makes the message, given the number by which its answer is known.
        :param expected: what kind of message the answer is.
        :returns: the answer; fails with `LinkLost` if the connection ends first.
        :raises LinkLost: there is no connection.
        """
        if self._call is None:
            raise LinkLost(f"node {self.node} is not connected")
        self._last_request += 1
        answer: Deferred[_Answer] = Deferred()
        self._answers[self._last_request] = (expected, answer)
        self._call.send(make(self._last_request))
        return answer

    def send_line(self, line: bytes) -> None:
        """
        Write an encoded message that has no answer; it is dropped if the node is not connected.
        """
        if self._call is not None:
            self._call.send_line(line)

    def cut(self, reason: str) -> None:
        """
        Give up this connection; another one is made.
        """
        if self._call is not None:
            self._call.close(reason)

    def mistake(self, reason: str) -> None:
        """
        Another process should be at the other end: give up this connection, and look for that.
        """
        self._endpoint.doubt()
        self.cut(reason)

    def stopService(self) -> Deferred[None]:
        self.cut(_STOPPING)
        self._endpoint.search_no_longer()
        return super().stopService()

    # What the conversation tells

    def call(self) -> _LinkCall:
        """
        A conversation for a new connection.
        """
        directory = self._directory
        return _LinkCall(directory, directory.caller(self.node, self._endpoint.called), self)

    def callWelcomed(self, call: _LinkCall) -> None:
        self._endpoint.reached()
        self._call = call
        self.up = True
        self.instance = call.instance
        self._user.linkUp(self)

    def callReceived(self, message: messages.Message) -> None:
        if isinstance(message, messages.Stored | messages.Counted | messages.Awaited):
            asked = self._answers.get(message.request)
            if asked is None or not isinstance(message, asked[0]):
                raise MalformedMessage(f"{type(message).__name__} answers nothing that was asked")
            del self._answers[message.request]
            asked[1].callback(message)
        else:
            self._user.linkReceived(self, message)

    def callWritable(self) -> None:
        self._user.linkWritable(self)

    def callEnded(self, call: _LinkCall, reason: str, *, welcome: bool) -> None:
        if not welcome:
            self._endpoint.refused(call.refusal)
            if call.proved:
                self._refused(self.node, call.refusal)
            return
        # When everything stops, every node would say it of every other.
        level = LogLevel.debug if reason in _IN_ORDER else LogLevel.info
        _log.emit(level, "the connection to node {node} is gone: {reason}", node=self.node, reason=reason)
        self._call = None
        self.up = False
        lost, self._answers = self._answers, {}
        self._user.linkDown(self)
        for _, answer in lost.values():
            answer.errback(LinkLost(f"node {self.node} is gone: {reason}"))


class _LinkFactory(Factory):
    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> _LinkCall:
        return self._link.call()

"""
A persistent connection to a node, with requests and replies. It is made again when it is lost.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from dcounter.errors import LinkLost, MalformedMessage, PeerError
from dcounter.links.address_book import AddressBook
from dcounter.links.call import Call, SearchLog
from dcounter.protocol import compaction, messages, questions, scraping, watching
from dcounter.protocol.handshake import Caller, Peer

_log = Logger()

_M = TypeVar("_M")
_FIRST_PAUSE = 0.05
_LAST_PAUSE = 0.2
"""
Times (s) between two attempts to reach a node at one port: the first, and the longest.
"""

_LONGEST_PAUSE = 5.0
"""
Longest pause (s) after connections that this end closed because of what the node said; they double. The node
will probably say the same again, until one of the two is upgraded.
"""

_LONG_LIFE = 10.0
"""
A connection that lived for longer than this (s) says nothing about the next one.
"""

_TOLD_SEARCH = 3
"""
Failed searches after which it is logged; a node that is starting is found sooner.
"""

_STOPPING = "stopping"
_IN_ORDER = (_STOPPING, "the node says: the node is stopping", "the node says: stopping")
"""
The reasons of connections that end normally.
"""


class LinkUser(Protocol[_M]):
    """
    Learns what happens on a link.
    """

    def link_up(self, link: "Link[_M]") -> None:
        """
        The node is connected and has proved itself.
        """

    def link_down(self, link: "Link[_M]") -> None:
        """
        The connection is lost.
        """

    def link_writable(self, link: "Link[_M]") -> None:
        """
        The connection takes more again.
        """

    def link_received(self, link: "Link[_M]", message: _M, line: bytes) -> None:
        """
        A message that answers no request arrived.

        :param line: the message as it came, with the fields that this version does not know.
        :raises PeerError: the message is not allowed; the connection is closed.
        """


class _LinkCall(Call):
    def __init__(self, address_book: "AddressBook", caller: Caller, link: "Link[Any]") -> None:
        super().__init__(caller, address_book.limits, address_book.clock, address_book.complaints)
        self._link = link
        self.refused = False

    def welcomed(self) -> None:
        super().welcomed()
        self._link.call_welcomed(self)

    def received(self, line: bytes) -> None:
        self._link.call_received(self, line)

    def connection_ended(self, reason: str) -> None:
        self._link.call_ended(self, reason, welcome=self._state == "welcome")

    def refuse(self, error: PeerError) -> None:
        self.refused = True
        super().refuse(error)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        # A transport of TLS calls this when its own handshake is done, before ours.
        if self._state == "welcome":
            self._link.call_writable()


@implementer(IStreamClientEndpoint)
class _NodeEndpoint:
    """
    Finds a node, however long it takes: on its last known port, or on another one of its range.

    The last known port is tried often, because a node that starts again will be there; the others are
    searched less often. Neither waits for the other: a silent stranger on a port of the range delays a
    search.

    :param jitter: gives a random number around 0, for the pauses between attempts.
    :ivar port: the last known port of the node.
    :ivar called: the port that is being called, or was called last.
    :ivar port_uncertain: the node may not be on that port, which is then tried less often.
    """

    def __init__(self, node: int, address_book: AddressBook, jitter: Callable[[], float]) -> None:
        self._node = node
        self._address_book = address_book
        self._limits = address_book.limits
        self._clock = address_book.clock
        self._pause = backoffPolicy(_FIRST_PAUSE, _LAST_PAUSE, factor=2.0, jitter=jitter)
        self._next_search = float("-inf")
        self._next_uncertain_call = float("-inf")
        self._searching: Deferred[None] = succeed(None)
        self._searches = 0
        self._told = ""
        self.port = self.called = address_book.addresses[node].port
        self.port_uncertain = False

    def __repr__(self) -> str:
        return f"<node {self._node}, last seen on port {self.port}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._find(protocolFactory))

    async def _find(self, factory: IProtocolFactory) -> IProtocol:
        attempts = 0
        while True:
            now = self._clock.seconds()
            if (self.port_uncertain or attempts) and self._searching.called and now >= self._next_search:
                await self._searching
                self._searching = Deferred.fromCoroutine(self._search())
            if not self.port_uncertain or now >= self._next_uncertain_call:
                self.called = self.port
                with contextlib.suppress(ConnectError, DNSLookupError):
                    return await self._address_book.endpoint(self._node, self.called).connect(factory)
            attempts += 1
            if attempts > 1:
                await deferLater(self._clock, self._pause(attempts - 2))

    async def _search(self) -> None:
        """
        Search all ports of the range once.
        """
        answers = SearchLog(self.port)
        port = await self._address_book.locate(self._node, self.port, answers)
        self._next_search = self._clock.seconds() + self._limits.search_s
        if port is not None:
            self.moved(port)
        else:
            self._missed(answers)

    def refused(self, said: messages.Farewell) -> None:
        """
        Take note that the called port answered, but not as the node.
        """
        self.doubt()
        answers = SearchLog(self.called)
        answers.heard(self.called, said)
        if said.code:
            self._missed(answers)

    def doubt(self) -> None:
        """
        Take note that the node may not be on its last known port.
        """
        self.port_uncertain = True
        self._next_uncertain_call = self._clock.seconds() + self._limits.search_s

    def _missed(self, answers: SearchLog) -> None:
        """
        Count a failed search. Log it after some of them, and again when the answers change.
        """
        self._searches += 1
        text = f"on port {self.port} and on the rest of its range; still searching{answers}"
        if self._searches >= _TOLD_SEARCH and text != self._told:
            self._told = text
            say = _log.warn if str(answers) else _log.info
            say("node {node} is unreachable {text}", node=self._node, text=text)

    def reached(self) -> None:
        """
        The node was found, and accepted the connection.
        """
        self._searches = 0
        self._told = ""
        self.stop_search()

    def stop_search(self) -> None:
        """
        Stop a search that is under way.
        """
        self._searching.cancel()
        self._searching.addErrback(lambda why: cast(None, why.trap(CancelledError)))

    def moved(self, port: int) -> None:
        """
        Take note that the node now listens on this port.
        """
        self.port = port
        self.port_uncertain = False


class Link(ClientService, Generic[_M]):
    """
    A persistent connection to one node, made again when it is lost.

    :param decode: decodes what the node sends after the handshake.
    :param refused: called when a member that has proved itself refuses this process, with the reason.
    :ivar node: the node's id.
    :ivar up: whether the node is connected and has proved itself.
    :ivar peer: the process that is connected, or was last, and what the connection uses.
    """

    def __init__(
        self,
        node: int,
        *,
        address_book: AddressBook,
        user: LinkUser[_M],
        decode: Callable[[bytes], _M | messages.Reply | messages.Farewell],
        jitter: Callable[[], float],
        refused: Callable[[int, messages.Farewell], object] = lambda _, __: None,
    ) -> None:
        self.node = node
        self.up = False
        self.peer = Peer("node", node)
        self._user = user
        self._decode = decode
        self._refused = refused
        self._address_book = address_book
        self._endpoint = _NodeEndpoint(node, address_book, lambda: _FIRST_PAUSE * jitter())
        self._call: _LinkCall | None = None
        self._answers: dict[int, tuple[type[messages.Reply], Deferred[Any]]] = {}
        self._last_request = 0
        self._welcomed = 0.0
        self._refusals = 0
        self._pause = backoffPolicy(
            _FIRST_PAUSE, _LONGEST_PAUSE, factor=2.0, jitter=lambda: _FIRST_PAUSE * jitter()
        )
        super().__init__(
            self._endpoint,
            _LinkFactory(self),
            # For a lost connection; between its attempts to make a new one, the endpoint has its own pauses.
            retryPolicy=lambda _: self._pause(self._refusals),
            clock=address_book.clock,
        )

    @property
    def address(self) -> str:
        """
        Where the node was last known to listen.
        """
        return f"{self._address_book.addresses[self.node].host}:{self._endpoint.port}"

    @property
    def host(self) -> str:
        """
        The machine where the node is.
        """
        return self._address_book.addresses[self.node].host

    @property
    def paused(self) -> bool:
        """
        Whether the connection takes no more at present.
        """
        return self._call is None or self._call.paused

    def moved(self, port: int) -> None:
        """
        Take note that the node said it now listens on this port.
        """
        self._endpoint.moved(port)

    @overload
    def ask(self, make: Callable[[int], messages.Store]) -> Deferred[messages.Stored]: ...

    @overload
    def ask(self, make: Callable[[int], messages.Count]) -> Deferred[messages.Counted]: ...

    @overload
    def ask(self, make: Callable[[int], questions.Ask]) -> Deferred[questions.Told]: ...

    @overload
    def ask(self, make: Callable[[int], messages.Await | messages.Remove]) -> Deferred[messages.Awaited]: ...

    @overload
    def ask(self, make: Callable[[int], watching.Watch]) -> Deferred[watching.Changed]: ...

    @overload
    def ask(
        self, make: Callable[[int], compaction.SetFloor | compaction.Compact]
    ) -> Deferred[compaction.Agreed]: ...

    @overload
    def ask(self, make: Callable[[int], scraping.Scrape]) -> Deferred[scraping.Scraped]: ...

    @overload
    def ask(self, make: Callable[[int], messages.Request]) -> Deferred[Any]: ...

    def ask(self, make: Callable[[int], messages.Request]) -> Deferred[Any]:
        """
        Send a request.

        :param make: makes the message from the number that the answer will carry.
        :returns: the answer, of the kind that `messages.REPLIES` says; fails with `LinkLost` if the
            connection ends first. A question of which it is cancelled is withdrawn.
        :raises LinkLost: there is no connection.
        """
        if self._call is None:
            raise LinkLost(f"node {self.node} is not connected")
        self._last_request += 1
        request = make(self._last_request)
        withdraw = partial(self._withdraw, self._last_request) if isinstance(request, questions.Ask) else None
        answer: Deferred[Any] = Deferred(withdraw)
        self._answers[self._last_request] = (messages.REPLIES[type(request)], answer)
        self._call.send(request)
        return answer

    def _withdraw(self, request: int, answer: Deferred[Any]) -> None:
        """
        Nobody waits for an answer any more. One comes nevertheless, and then the request is forgotten.
        """
        if self._call is not None:
            self._call.send(questions.Withdraw(request))

    def send_line(self, line: bytes) -> None:
        """
        Write an encoded message that has no answer; it is dropped if the node is not connected.
        """
        if self._call is not None:
            self._call.send_line(line)

    def send_lines(self, lines: Sequence[bytes]) -> None:
        """
        Write encoded messages that have no answers; they are dropped if the node is not connected.
        """
        if self._call is not None:
            self._call.send_lines(lines)

    def cut(self, reason: str) -> None:
        """
        Close this connection; another one will be made.
        """
        if self._call is not None:
            self._call.close(reason)

    def mistake(self, reason: str) -> None:
        """
        Close this connection, because the wrong process is at the other end, and search for the right one.
        """
        self._endpoint.doubt()
        self.cut(reason)

    def stopService(self) -> Deferred[None]:
        self.cut(_STOPPING)
        self._endpoint.stop_search()
        return super().stopService()

    # Called by the conversation

    def call(self) -> _LinkCall:
        """
        A conversation for a new connection.
        """
        address_book = self._address_book
        return _LinkCall(address_book, address_book.caller(self.node, self._endpoint.called), self)

    def call_welcomed(self, call: _LinkCall) -> None:
        self._endpoint.reached()
        self._call = call
        self.up = True
        self._welcomed = self._address_book.clock.seconds()
        assert call.peer is not None
        self.peer = call.peer
        self._user.link_up(self)

    def call_received(self, call: _LinkCall, line: bytes) -> None:
        message = self._decode(line)
        if isinstance(message, messages.Reply):
            asked = self._answers.get(message.request)
            if asked is None or not isinstance(message, asked[0]):
                raise MalformedMessage(f"{type(message).__name__} does not answer a request")
            del self._answers[message.request]
            if not asked[1].called:
                asked[1].callback(message)
        elif isinstance(message, messages.Farewell):
            call.left(message)
        else:
            self._user.link_received(self, message, line)

    def call_writable(self) -> None:
        self._user.link_writable(self)

    def call_ended(self, call: _LinkCall, reason: str, *, welcome: bool) -> None:
        if not welcome:
            self._endpoint.refused(call.refusal)
            if call.proved:
                self._refused(self.node, call.refusal)
            return
        # When the whole cluster stops, every node would log it about every other one.
        level = LogLevel.debug if reason in _IN_ORDER else LogLevel.info
        _log.emit(level, "the connection to node {node} ended: {reason}", node=self.node, reason=reason)
        lived = self._address_book.clock.seconds() - self._welcomed
        self._refusals = (self._refusals if lived <= _LONG_LIFE else 0) + 1 if call.refused else 0
        self._call = None
        self.up = False
        lost, self._answers = self._answers, {}
        self._user.link_down(self)
        for _, answer in lost.values():
            if not answer.called:
                answer.errback(LinkLost(f"the connection to node {self.node} ended: {reason}"))


class _LinkFactory(Factory):
    noisy = False

    def __init__(self, link: Link[Any]) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> _LinkCall:
        return self._link.call()


NodeLink = Link[messages.Report]
"""
A coordinator's link to a node.
"""

PeerLink = Link[messages.BetweenNodes]
"""
A node's link to another one.
"""

"""
A connection between two processes of a cluster: its lines, its bounds, and the log of refusals.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.errors import HandshakeRefused, PeerError
from dcounter.limits import Limits
from dcounter.links.throttle import Throttle
from dcounter.outlet import Outlet
from dcounter.protocol import codec, messages

_log = Logger()

HANDSHAKE_LINE = 8 * 1024
"""
Longest line (bytes) before the handshake is over: that of a thousand members fits.
"""

_LINGER = 1.0
"""
Time (s) that the other end has to read why the connection is closed.
"""

_COMPLAINTS = 10
_COMPLAINTS_INTERVAL = 10.0
"""
How many refused connections a process logs in how much time (s); of further ones it logs the number.
"""

NO_ANSWER = "no answer to the handshake in time"


_TLS_ERROR = "OpenSSL.SSL.Error"
"""
The name of its class, since few processes need OpenSSL.
"""


def _side_and_reason(reason: Failure) -> str:
    """
    Which end refused a connection over TLS, and why.
    """
    arguments = getattr(reason.value, "args", ())
    why = "; ".join(str(error[-1]) for error in (arguments and arguments[0]) or ()) or "without a reason"
    # An alert is what the other end sends.
    side = "the other end refused TLS with this one" if "alert" in why else "refused TLS with the other end"
    return f"{side}: {why}"


class Complaints:
    """
    Logs refused connections, but only so many: strangers must not fill the log.

    :param seconds: the clock (s).
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._throttle = Throttle(_COMPLAINTS, _COMPLAINTS_INTERVAL, seconds)

    def refused(self, peer: IAddress, error: Exception) -> None:
        """
        Log a refused connection.
        """
        self.log_rest()
        if self._throttle.passes():
            _log.warn("closing the connection with {peer}: {error}", peer=peer, error=error)

    def log_rest(self, *, at_once: bool = False) -> None:
        """
        Log how many more there were, if there were any and it is time.

        :param at_once: do not wait until it is time.
        """
        more = self._throttle.held_back(at_once=at_once)
        if more:
            _log.warn(
                "refused {more} more connections in the last {seconds:g} s",
                more=more,
                seconds=self._throttle.interval,
            )


@implementer(IPushProducer)
class Conversation(TwistedProtocol, ABC):
    """
    One connection that speaks the messages of `dcounter.protocol.messages`, one per line.

    A mistake of the other end costs this connection only. Subclasses define what a line means.

    :param clock: for the time-outs.
    """

    def __init__(self, limits: Limits, clock: IReactorTime, complaints: Complaints) -> None:
        self._limits = limits
        self._clock = clock
        self._complaints = complaints
        self._splitter = codec.LineSplitter(HANDSHAKE_LINE)
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
        self._outlet = Outlet(self.tcp)
        self._consumer.registerProducer(self, True)
        self._start_timeout(self._limits.handshake_s, lambda: self.close("no handshake in time"))

    def dataReceived(self, data: bytes) -> None:
        try:
            while data:
                # Until the handshake is over, each line may be the one after which longer ones are allowed.
                end = 0 if self._welcomed else data.find(b"\n") + 1
                first, data = (data[:end], data[end:]) if end else (data, b"")
                for line in self._splitter.feed(first):
                    if self.ended:
                        return
                    self.line_received(line)
        except PeerError as error:
            self.refuse(error)

    @abstractmethod
    def line_received(self, line: bytes) -> None:
        """
        Take a line: subclasses decode it as what may come in the current phase.

        :raises PeerError: it is something else; the connection is closed.
        """

    def refuse(self, error: PeerError) -> None:
        """
        Close the connection and log it, because the other end broke the protocol.
        """
        self._complaints.refused(self.tcp.getPeer(), error)
        self._close_for(error)

    def _close_for(self, error: PeerError) -> None:
        self.close(str(error), error.code if isinstance(error, HandshakeRefused) else "")

    def welcomed(self) -> None:
        """
        Allow longer lines, because the handshake is over.
        """
        self._welcomed = True
        self._splitter.limit = self._limits.line_bytes
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
        self._outlet.write(line + b"\n")

    def send_lines(self, lines: Sequence[bytes]) -> None:
        """
        Write several messages that are encoded already.
        """
        self._outlet.write(b"".join([line + b"\n" for line in lines]))

    def close(self, reason: str, code: str = "") -> None:
        """
        Close the connection, and tell the other end why.

        For this end the connection is over at once; an end that does not read cannot keep it open.

        :param code: the same for programs, see `messages.Farewell`.
        """
        if not self.ended:
            self.send(messages.Farewell(reason, code))
            self._consumer.unregisterProducer()
            self.tcp.loseConnection()
            self._end(reason)
            self._start_timeout(_LINGER, self.tcp.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._outlet.close()
        if not self.ended and reason.check(_TLS_ERROR):
            self._complaints.refused(self.tcp.getPeer(), HandshakeRefused(_side_and_reason(reason)))
        self._end(reason.getErrorMessage())
        self._stop_timeout()

    def connection_ended(self, reason: str) -> None:
        """
        No more messages will be exchanged; called once.
        """

    def _end(self, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self.connection_ended(reason)

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
        self._outlet.emptied()
        self.paused = False

    def stopProducing(self) -> None:
        self.paused = True

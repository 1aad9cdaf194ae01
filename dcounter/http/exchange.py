"""
A request and its answer: the body that arrives, the route that answers, the answer that is sent.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.errors import AnswerBroken, NotApplied, Outcome, Refusal
from dcounter.http.admission import answer as respond
from dcounter.http.admission import identify, require_allowed, require_permit
from dcounter.http.bridge import BridgedRequest, Line, pass_on
from dcounter.http.call import Call
from dcounter.http.problems import Answer, BodyTooLarge, Overloaded
from dcounter.http.reader import Head
from dcounter.http.routes import Found, report_bug
from dcounter.http.sending import LAST_CHUNK, encode, encode_chunk, encode_fields, encode_head
from dcounter.http.shared import Shared
from dcounter.http.streams import IncomingBody
from dcounter.http.task import Task

_log = Logger()

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_COUNTED: Final = -1.0
"""
Stands for the time at which a request came that is counted, and whose answer lasts.
"""

_RESTED_S: Final = 0.05
"""
Time (s) after which a stream that lasts has certainly waited, and others had their turns.
"""


class Caller(Line, Protocol):
    """
    The connection that an exchange takes place on.

    :ivar persistent: whether another request may follow.
    :ivar blocked: whether the caller has to read before more is sent.
    """

    persistent: bool
    blocked: bool

    def go_on(self) -> None:
        """
        Read on: there is room for more of the body.
        """

    def answered(self) -> None:
        """
        Go on to the next request: the answer is written.
        """

    def lasts(self) -> None:
        """
        Expect no other request: the answer goes on for as long as the caller stays.
        """


class Exchange:
    """
    One request, and its answer.

    :param found: its route; `None` if Klein routes it.
    :ivar in_body: whether a part of the body is missing.
    :ivar answering: whether the route has the request.
    """

    # Each request has one.
    __slots__ = (
        "_body",
        "_caller",
        "_gone",
        "_held",
        "_shared",
        "_since",
        "_task",
        "_writable",
        "answering",
        "found",
        "head",
        "in_body",
    )

    def __init__(self, caller: Caller, shared: Shared, head: Head, found: Found | None) -> None:
        self._caller = caller
        self._shared = shared
        self.head = head
        self.found = found
        self._body: bytes | BytesIO | IncomingBody = b""
        self._held = 0
        self._since = shared.now()
        self._task: Task | BridgedRequest | None = None
        self._writable: Deferred[None] | None = None
        self._gone = False
        self.answering = False
        self.in_body = False

    @property
    def flows(self) -> bool:
        """
        Whether more of the body is wanted.
        """
        return self.in_body and not (
            self.answering and (not isinstance(self._body, IncomingBody) or self._body.full)
        )

    @property
    def ends_with_caller(self) -> bool:
        """
        Whether the answer is given up when the caller sends no more.
        """
        if isinstance(self._task, BridgedRequest):
            return self._task.ends_with_caller
        return self.answering and self.found is not None and self.found.route.ends_with_caller

    @property
    def outcome(self) -> Outcome | None:
        """
        What became of a request that is refused before its route has it.
        """
        return "not_applied" if self.found is not None and self.found.route.changes else None

    @property
    def encodings(self) -> Sequence[str]:
        """
        The encodings that the body may have.
        """
        self._look_at_type()
        return () if self.found is None else self.found.route.encodings

    def _look_at_type(self) -> None:
        """
        Take the route for this type of body.
        """
        found = self.found
        if found is None or not found.route.by_type:
            return
        route = found.route.of_type(self.head.headers)
        if route is not found.route:
            self.found = Found(route, found.segments, found.query, found.figures)

    def take_whole(self, body: bytes) -> None:
        """
        Take a small body, all of which came with the head.

        :raises Refusal: it may not come.
        """
        if self.found is not None and self.found.route.by_type:
            self._look_at_type()
        found, shared = self.found, self._shared
        size, most = len(body), shared.limits.max_body_bytes
        if size > most and not (found is not None and found.route.streams_body):
            raise BodyTooLarge(most)
        self._held = size
        shared.body_bytes += size
        self.answer(body)

    def expect(self, *, here: bool) -> None:
        """
        Get ready for the body; see that it may come.

        :param here: whether it comes already.
        :raises Refusal: it may not.
        """
        self._look_at_type()
        head, found, limits = self.head, self.found, self._shared.limits
        streams = found is not None and found.route.streams_body
        if not streams and head.length is not None and head.length > limits.max_body_bytes:
            raise BodyTooLarge(limits.max_body_bytes)
        self.in_body = True
        if head.expects and not here:
            if found is None:
                # No route takes the body: the answer is known without it.
                self._caller.persistent = False
                self.answer(b"")
                return
            self.require_permitted()
            self._caller.outlet.write(_CONTINUE)
        if streams:
            self.answer(b"")

    def require_permitted(self) -> None:
        """
        Take no large body in vain, and none from strangers, whether there is a path for it or not.

        :raises Refusal: the caller shows no token, or its token does not permit the request now.
        """
        api, found = self._shared.api, self.found
        call = Call(b"", b"", self._caller.peer, self.head.headers)
        if found is not None:
            require_allowed(api, found.route, call)
        elif api.tokens is not None:
            call.principal = identify(api, api.tokens, call)
        require_permit(api, call.principal, take=False)

    def take(self, data: bytes) -> None:
        """
        Take a part of the body, and count it.

        :raises Refusal: it is one too many.
        """
        shared = self._shared
        if isinstance(self._body, IncomingBody) and self._body.ended:
            # The route reads no more of it.
            return
        self._held += len(data)
        shared.body_bytes += len(data)
        if isinstance(self._body, IncomingBody):
            self._body.feed(data)
            return
        limits = shared.limits
        if self._held > limits.max_body_bytes:
            raise BodyTooLarge(limits.max_body_bytes)
        if shared.body_bytes > limits.max_bodies_bytes and self._held > limits.small_body_bytes:
            raise Overloaded(f"request bodies in memory exceed {limits.max_bodies_bytes} bytes")
        if not self._body:
            self._body = data
            return
        if isinstance(self._body, bytes):
            first, self._body = self._body, BytesIO()
            self._body.write(first)
        self._body.write(data)

    def end_of_body(self) -> None:
        self.in_body = False
        body = self._body
        if isinstance(body, IncomingBody):
            body.end()
        else:
            self.answer(body if isinstance(body, bytes) else body.getvalue())

    def fail(self, refusal: Refusal) -> bool:
        """
        The rest of the body cannot be had.

        :returns: whether the route is told, and answers.
        """
        if not self.answering or not isinstance(self._body, IncomingBody):
            return False
        self.in_body = self._caller.persistent = False
        self._body.end(refusal)
        return True

    def stop(self) -> None:
        """
        Wait for no more of the body: the daemon stops.
        """
        if self.in_body and isinstance(self._body, IncomingBody):
            self._body.end(NotApplied("the daemon is stopping", retry_after=1))

    def _taken_out(self, size: int) -> None:
        """
        The route has taken a part out of the body that arrives.
        """
        self._held -= size
        self._shared.body_bytes -= size
        self._caller.go_on()

    def _hold(self, size: int) -> None:
        """
        Count memory that reading the body takes.

        A load may keep it for long, so half of what bodies may take is left for others.

        :raises Overloaded: there is not enough.
        """
        shared = self._shared
        most = shared.limits.max_bodies_bytes // 2
        if shared.body_bytes + size > most:
            raise Overloaded(f"request bodies in memory would exceed {most} bytes, the most for loads")
        self._held += size
        shared.body_bytes += size

    def _call(self, found: Found, body: bytes) -> Call:
        return Call(body, found.query, self._caller.peer, self.head.headers, found.segments)

    def _incoming(self, here: bytes) -> IncomingBody:
        """
        The body, for a route that reads it while it arrives.

        :param here: all of it, if it came with the head.
        """
        shared = self._shared
        body = self._body = IncomingBody(
            shared.limits.stream_buffer_bytes,
            shared.limits.load_s,
            taken=self._taken_out,
            hold=self._hold,
            call_later=shared.call_later,
        )
        if here:
            body.feed(here)
        if not self.in_body:
            body.end()
        return body

    def answer(self, body: bytes) -> None:
        """
        Have the request answered.
        """
        self.answering = True
        found = self.found
        if found is None:
            request = pass_on(self._caller, self, self._shared.resource, self.head, body)
            if not self._gone:
                self._task = request
            return
        if found.route.streams_body:
            call = self._call(found, b"")
            call.stream = self._incoming(body)
        else:
            call = self._call(found, body)
        task = self._task = Task(self._respond(found, call))
        task.run()

    async def _respond(self, found: Found, call: Call) -> None:
        """
        Await an answer and send it; never fails, so that no callbacks are needed: they cost more.
        """
        try:
            answer = await respond(self._shared.api, found.route, call)
        except Exception as error:  # noqa: BLE001 - a bug, and the caller is told
            if self._gone and isinstance(error, CancelledError):
                return
            answer = report_bug(self.head.method, self.head.target, self.head.headers, Failure())
        try:
            if answer.stream is not None:
                await self._stream(answer)
            elif not self._gone:
                self._write(answer)
                self._caller.answered()
        except AnswerBroken as error:
            _log.warn("the answer to {uri} was broken off: {why}", uri=self.head.target.decode(), why=error)
            self._caller.transport.abortConnection()
        except Exception:  # noqa: BLE001 - nobody is left to be told
            _log.failure("an answer could not be sent")
            self._caller.transport.abortConnection()

    async def _stream(self, answer: Answer) -> None:
        """
        Send an answer as it is made, no faster than the caller reads it.

        However fast that is, other connections have their turns.
        """
        assert answer.stream is not None
        caller, shared, version = self._caller, self._shared, self.head.version
        if version != b"HTTP/1.1":
            # Only the end of the connection shows where it ends.
            caller.persistent = False
        if answer.lasting and not self._gone:
            caller.lasts()
        try:
            if not self._gone:
                self._write(answer)
            until = shared.seconds() + shared.limits.turn_s
            async for part in answer.stream:
                if answer.lasting and shared.seconds() >= until + _RESTED_S:
                    until = shared.seconds() + shared.limits.turn_s
                if shared.seconds() >= until and not self._gone:
                    await self._next_turn()
                    until = shared.seconds() + shared.limits.turn_s
                if caller.blocked and not self._gone:
                    self._writable = Deferred()
                    await self._writable
                if self._gone:
                    return
                if part:
                    caller.outlet.write(encode_chunk(part, version))
        except CancelledError:
            if not self._gone:
                raise
            return
        finally:
            await answer.stream.aclose()
        if self._gone:
            return
        if version == b"HTTP/1.1":
            caller.outlet.write(LAST_CHUNK)
        if not answer.lasting:
            self.count(answer)
        caller.answered()

    async def _next_turn(self) -> None:
        turn: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._shared.call_later(0, turn.callback, None)
        await turn

    @property
    def _last(self) -> bool:
        # What is left of a body that no route wanted cannot be told from the next request.
        return not self._caller.persistent or self.in_body

    def marked(self, answer: Answer) -> Answer:
        """
        An answer with what it repeats of the request, if it is not sent by way of the route.
        """
        return answer

    def _write(self, answer: Answer) -> None:
        self._caller.outlet.write(encode(answer, self.head.version, self._shared.date(), last=self._last))
        if answer.stream is None:
            self.count(answer)
        elif answer.lasting:
            self.count(answer)
            self._since = _COUNTED

    def count(self, answer: Answer) -> None:
        """
        Count the request: its answer is written.
        """
        found, shared = self.found, self._shared
        took_s = shared.now() - self._since
        if found is None:
            shared.figures.unrouted(self.head.method, answer.status, answer.refusal, self._since)
        else:
            found.figures.answered(answer.status, took_s)
            if answer.refusal:
                shared.figures.refused(answer.refusal)
        if shared.access.on:
            shared.access.answered(self._caller.peer, self.head, answer, took_s)

    def encode_head(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """
        The head of an answer of twisted.web.
        """
        given = list(fields)
        # It says that the answer may be kept: see `prepare`.
        others = [each for each in given if each[0] != b"Cache-Control"]
        return encode_head(
            status,
            encode_fields(others),
            self.head.version,
            self._shared.date(),
            last=self._last,
            kept=len(others) < len(given),
        )

    def writable(self) -> None:
        """
        The caller has read what was sent.
        """
        waiting, self._writable = self._writable, None
        if waiting is not None:
            waiting.callback(None)

    def over(self) -> None:
        """
        Let go of the body: the request is answered, or will not be.
        """
        self._gone = True
        self._shared.body_bytes -= self._held
        self._held = 0
        if isinstance(self._body, IncomingBody):
            self._body.drop()
        self._body = b""

    def cancel(self, reason: Failure) -> None:
        """
        Nobody waits for the answer any more.
        """
        self.over()
        if self._since != _COUNTED:
            figures, access = self._shared.figures, self._shared.access
            figures.abandoned()
            if access.on:
                access.abandoned(self._caller.peer, self.head, figures.seconds() - self._since)
        task, self._task = self._task, None
        if isinstance(task, BridgedRequest):
            task.connectionLost(reason)
        elif task is not None:
            task.cancel()

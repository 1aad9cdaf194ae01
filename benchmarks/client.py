"""
A client of our own for what wrk cannot do: requests at a given rate, and each request exactly once.

With a rate, latency counts from the moment at which a request was due, so a server that stops answers
late for all who would have asked meanwhile, not only for those who did. asyncio would wait in steps of
a millisecond; `select` waits in microseconds.
"""

import gc
import multiprocessing
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, repeat
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Event
from select import select
from typing import Final

# Enough that a rate is kept while a server takes 20 ms for each of 3,000 requests a second.
_CONNECTIONS: Final = 64
# After the last request was due: who has not been answered by then is counted with that.
_GRACE: Final = 5.0
# A probe that is answered as slowly as in 40 ms still keeps 200 requests a second.
_PROBES: Final = 8


def get(path: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path


def post(body: bytes) -> bytes:
    return b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@dataclass(frozen=True, slots=True)
class Answered:
    """
    One request of a rate.

    :ivar due: when it was to be sent; `time.perf_counter`, which all processes share.
    :ivar late: how much later it was sent: because this client was not run, or had no free connection.
    :ivar latency: from due to the end of the answer.
    """

    due: float
    late: float
    latency: float


@dataclass(slots=True)
class Heard:
    """
    What came of a rate.

    :ivar errors: answers other than 200, broken connections, and requests without an answer.
    """

    answers: list[Answered] = field(default_factory=list)
    errors: int = 0


class _Connection:
    """
    One request at a time.
    """

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._open()
        self.due = self.sent = 0.0

    def _open(self) -> None:
        self.socket = socket.create_connection(self._address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A whole request fits, so that sending does not wait for the server to read.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self._received = b""

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool | None:
        """
        Read what is there.

        :returns: whether the answer is 200; `None` if it is not there as a whole.
        """
        try:
            received = self.socket.recv(65536)
        except ConnectionError:
            received = b""
        if not received:
            self.socket.close()
            self._open()
            return False
        self._received += received
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return None
        ok = self._received.startswith(b"HTTP/1.1 200 ")
        self._received = b""
        return ok

    def close(self) -> None:
        self.socket.close()


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


@contextmanager
def _connected(port: int, how_many: int) -> Iterator[deque[_Connection]]:
    connections = [_Connection(port) for _ in range(how_many)]
    # A collection here would look like a pause there.
    gc.collect()
    gc.disable()
    try:
        yield deque(connections)
    finally:
        gc.enable()
        for connection in connections:
            connection.close()


def flood(port: int, requests: Iterable[bytes], connections: int) -> int:
    """
    Send each request once, as fast as they are answered.

    :returns: the number of errors.
    """
    errors = 0
    with _connected(port, connections) as idle:
        waiting = iter(requests)
        busy: dict[socket.socket, _Connection] = {}
        while True:
            for request in islice(waiting, len(idle)):
                connection = idle.popleft()
                connection.send(request, 0.0)
                busy[connection.socket] = connection
            if not busy:
                return errors
            for readable in select(list(busy), [], [])[0]:
                connection = busy[readable]
                ok = connection.receive()
                if ok is not None:
                    errors += not ok
                    del busy[readable]
                    idle.append(connection)


def offer(
    port: int,
    requests: Iterable[bytes],
    rate: float,
    *,
    connections: int = _CONNECTIONS,
    stopped: Callable[[], bool] = lambda: False,
) -> Heard:
    """
    Send requests at a rate, whether or not those before have been answered.

    A request that finds no free connection waits for one; its latency counts from when it was due.

    :param stopped: asked now and then; the rest of the requests is then left.
    """
    heard = Heard()
    with _connected(port, connections) as idle:
        busy: dict[socket.socket, _Connection] = {}
        began = time.perf_counter() + 0.01
        due = began
        number = 0
        waiting = iter(requests)
        request = next(waiting, None)
        until = float("inf")
        while (request is not None or busy) and (now := time.perf_counter()) < until:
            while request is not None and due <= now and idle:
                connection = idle.popleft()
                connection.send(request, due)
                busy[connection.socket] = connection
                number += 1
                due = began + number / rate
                request = None if number % 64 == 0 and stopped() else next(waiting, None)
            if request is None:
                until = min(until, max(due, now) + _GRACE)
            wait = max(due - time.perf_counter(), 0.0) if request is not None and idle else 0.1
            for readable in select(list(busy), [], [], wait)[0]:
                connection = busy[readable]
                ok = connection.receive()
                if ok is None:
                    continue
                answered = time.perf_counter()
                heard.errors += not ok
                heard.answers.append(
                    Answered(connection.due, connection.sent - connection.due, answered - connection.due)
                )
                del busy[readable]
                idle.append(connection)
        ended = time.perf_counter()
        heard.errors += len(busy)
        heard.answers += [Answered(c.due, c.sent - c.due, ended - c.due) for c in busy.values()]
    return heard


class Probe:
    """
    The same request at a steady rate from a process of its own, until it is stopped.
    """

    def __init__(self, port: int, request: bytes, rate: float) -> None:
        self._stop = multiprocessing.Event()
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(
            target=_probe, args=(port, request, rate, self._stop, theirs), daemon=True
        )
        self._process.start()

    def stop(self) -> Heard:
        self._stop.set()
        heard: Heard = self._pipe.recv()
        self._process.join()
        return heard


def _probe(port: int, request: bytes, rate: float, stop: Event, pipe: Pipe) -> None:
    pipe.send(offer(port, repeat(request), rate, connections=_PROBES, stopped=stop.is_set))


def percentile(values: list[float], which: float) -> float:
    """
    The value that `which` per cent of the others do not exceed.
    """
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * which // 100) - 1)]

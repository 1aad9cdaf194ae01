"""
What becomes of a server that grows: rates, stalls, memory, and how long the daemon takes to start.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from benchmarks.client import Heard, Probe, flood, get, offer, percentile, post
from benchmarks.parts import Say, pairs, prepare
from benchmarks.results import Consistency, Growth, Memory, Probed, Results, Start
from benchmarks.servers import Daemon, FastApiRedis, Server, ServerFailed, ask, check
from benchmarks.shapes import growing, renewing
from benchmarks.works import COUNT, THOUSAND
from benchmarks.wrk import CONNECTIONS, Requests

# The sizes with which the large one is compared: counts with the first, POSTs with the second.
FEW: Final = 1_000
SOME: Final = 100_000
# What the small daemon is called in results.
SMALL: Final = "small dcounter"

_BATCH: Final = 1_000
# Counts per second, all probes together.
_PROBE_RATE: Final = 200.0
# Of each step, this part is stored at full speed; the rest at half of it.
_FULL: Final = 0.7
_STARTS: Final = 5
_PATIENCE: Final = 300.0
_PATHS: Final[dict[Consistency, bytes]] = {
    "exact": b"/items/tenant-1/count",
    "eventual": b"/items/tenant-1/count?consistency=eventual",
}
_ONE_COPY: Final[set[Consistency]] = {"exact"}


def grow(items: int, *, rounds: int, seconds: int, folder: Path, say: Say) -> Results:
    """
    Let the daemon and its rival grow side by side, then look at what has become of the daemon.
    """
    found = Results()
    large, small, rival = Daemon(folder / "large"), Daemon(folder / "small"), FastApiRedis(folder / "rival")
    small.name = SMALL
    with _running(large):
        with _running(rival):
            _grow(large, rival, items, found, say)
        _restart(large, items, found, rounds=rounds, say=say)
        with _running(small):
            _compare(large, small, items, found, rounds=rounds, seconds=seconds, folder=folder, say=say)
    return found


@contextmanager
def _running(server: Server) -> Iterator[None]:
    try:
        server.start()
        check(server)
        server.settle()
        yield
    finally:
        server.stop()


def _grow(large: Daemon, rival: FastApiRedis, items: int, found: Results, say: Say) -> None:
    say(f"growing to {items:,} items")
    before = large.node_memory(), rival.used_memory()
    tenth = items // 10
    for first, end in pairwise([0, items // 100, *range(tenth, items + 1, tenth)]):
        requests = [post(body) for body in growing(first, end, _BATCH)]
        for server in (large, rival):
            _step(server, requests, first, end, found, say)
    after = large.node_memory(), rival.used_memory()
    for name, was, now in zip((large.name, rival.name), before, after, strict=True):
        memory = Memory(name, items, was, now)
        say(f"  {name:20} {memory.each:.1f} bytes per item")
        found.memory.append(memory)


def _step(server: Server, requests: list[bytes], first: int, end: int, found: Results, say: Say) -> None:
    """
    Store at full speed, then at half of that, while probes count.
    """
    # With one copy there is nothing to wait for: one probe is enough.
    kinds = _PATHS.keys() if isinstance(server, Daemon) else _ONE_COPY
    probes = {kind: Probe(server.port, get(_PATHS[kind]), _PROBE_RATE / len(kinds)) for kind in kinds}
    # Until they have started, which is not to be measured.
    time.sleep(0.5)
    full = max(1, int(len(requests) * _FULL))
    began = time.perf_counter()
    errors = flood(server.port, requests[:full], CONNECTIONS)
    server.drain()
    turned = time.perf_counter()
    after = min(first + full * _BATCH, end)
    # Few connections: to accept many at once is a stall of its own.
    rate = (after - first) / _BATCH / (turned - began) / 2
    slowly = offer(server.port, requests[full:], rate, connections=CONNECTIONS)
    server.drain()
    ended = time.perf_counter()
    grown = Growth(server.name, first, after, turned - began, errors + slowly.errors)
    say(f"  {server.name:20} {grown.rate:10,.0f} items/s from {first:,} on, {grown.errors} errors")
    found.growth.append(grown)
    for kind, probe in probes.items():
        heard = probe.stop()
        probed = partial(_probed, heard, server=server.name, stored=end, consistency=kind)
        found.probed += [
            *probed(load="full", since=began, until=turned),
            *probed(load="half", since=turned, until=ended),
        ]
    server.settle()


def _probed(
    heard: Heard,
    *,
    server: str,
    stored: int,
    load: Literal["full", "half"],
    consistency: Consistency,
    since: float,
    until: float,
) -> list[Probed]:
    answers = [answer for answer in heard.answers if since <= answer.due < until]
    if not answers:
        return []
    latencies = [answer.latency for answer in answers]
    return [
        Probed(
            server=server,
            stored=stored,
            load=load,
            consistency=consistency,
            asked=len(answers),
            p50=percentile(latencies, 50),
            p99=percentile(latencies, 99),
            most=max(latencies),
            late=max(answer.late for answer in answers),
        )
    ]


def _compare(
    large: Daemon,
    small: Daemon,
    items: int,
    found: Results,
    *,
    rounds: int,
    seconds: int,
    folder: Path,
    say: Say,
) -> None:
    """
    The large daemon and a small one in alternating pairs: counts, then POSTs of items that they have.
    """
    say("large and small")
    _fill(small, 0, FEW)
    counting = prepare(COUNT, folder)
    found.compared += pairs(COUNT, {large: counting, small: counting}, range(rounds), seconds, say)
    some = min(SOME, items)
    _fill(small, FEW, some)
    given: dict[Server, Requests] = {
        large: Requests(folder, "renew-large", "POST", renewing(items, _BATCH, _BATCH, 0)),
        small: Requests(folder, "renew-small", "POST", renewing(some, _BATCH, _BATCH, 0)),
    }
    found.compared += pairs(THOUSAND, given, range(rounds), seconds, say)


def _fill(server: Server, first: int, end: int) -> None:
    if flood(server.port, [post(body) for body in growing(first, end, _BATCH)], CONNECTIONS):
        raise ServerFailed(f"{server.name} does not take {end - first} items")
    server.drain()


def _restart(large: Daemon, items: int, found: Results, *, rounds: int, say: Say) -> None:
    """
    Start again after a kill, and after a stop, until a count is what it was.
    """
    ends: dict[Literal["kill -9", "stop"], Callable[[], None]] = {"kill -9": large.kill, "stop": large.stop}
    for _ in range(min(rounds, _STARTS)):
        for after, end in ends.items():
            expected = _count(large)
            assert expected is not None
            end()
            disk = large.disk_bytes()
            began = time.perf_counter()
            large.launch()
            while (counted := _count(large)) is None:
                if time.perf_counter() - began > _PATIENCE:
                    raise ServerFailed("the daemon does not start again")
                time.sleep(0.01)
            took, processor = time.perf_counter() - began, large.processor_seconds()
            if counted != expected:
                raise ServerFailed(f"after {after} a count is {counted}, not {expected}")
            say(f"  first exact count {took:.2f} s after the start, after {after}; {processor:.2f} s of CPU")
            found.starts.append(Start(items, after, took, processor, disk))
            # All nodes, not only those that the count needed.
            large.wait()
            large.settle()


def _count(server: Server) -> int | None:
    """
    A count, or `None` as long as there is none.
    """
    try:
        status, answer = ask(server.port, _PATHS["exact"].decode())
    except OSError:
        return None
    if status != 200:
        return None
    counter: int = answer["counter"]
    return counter

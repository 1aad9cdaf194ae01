"""
How servers are driven: as fast as they answer, in alternating pairs; or at a given rate.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.client import offer, percentile, post
from benchmarks.results import Offered, Purpose, Run
from benchmarks.servers import Server
from benchmarks.works import ONE, Work
from benchmarks.wrk import Requests

Say = Callable[[str], None]

_WARM_UP_S: Final = 1
# That of no round.
_WARM_UP_SEED: Final = 1_000_000
# Parts of its top rate that each server is offered, for the curve of latencies.
_CURVE: Final = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9)
# Its points are medians of no more rounds than this: they are for the eye.
_CURVES: Final = 3


def prepare(work: Work, folder: Path, seed: int = 0) -> Requests:
    return Requests(folder, work.name, work.method, work.make(seed))


def rates(
    work: Work, servers: Sequence[Server], *, rounds: int, seconds: int, folder: Path, say: Say
) -> list[Run]:
    """
    Drive servers in turn, all with the same requests.
    """
    say(f"{work.title}: {rounds} rounds of {seconds} s")
    _warm_up(work, servers, folder)
    if not work.stamped:
        requests = prepare(work, folder)
        return pairs(work, dict.fromkeys(servers, requests), range(rounds), seconds, say)
    found: list[Run] = []
    for round in range(rounds):
        # Sent again, such items would change nothing: each round has its own.
        requests = prepare(work, folder, round)
        found += pairs(work, dict.fromkeys(servers, requests), [round], seconds, say)
    return found


def _warm_up(work: Work, servers: Sequence[Server], folder: Path) -> None:
    """
    Let servers do such work for a moment: V8 compiles what it has seen often.
    """
    requests = prepare(work, folder, _WARM_UP_SEED)
    for server in servers:
        _drive(server, work, requests, 0, _WARM_UP_S)


def pairs(
    work: Work, given: Mapping[Server, Requests], rounds: Iterable[int], seconds: int, say: Say
) -> list[Run]:
    """
    Drive servers in turn, each with its requests.

    Every other round goes backwards, so that none always follows the same one.
    """
    found: list[Run] = []
    for round in rounds:
        turn = list(given) if round % 2 == 0 else list(given)[::-1]
        for server in turn:
            run = _drive(server, work, given[server], round, seconds)
            say(told(run))
            found.append(run)
    return found


def _drive(server: Server, work: Work, requests: Requests, round: int, seconds: int) -> Run:
    busy, front = server.processor_seconds(), server.front_seconds()
    # No round begins where the one before did; what comes again later has another tenant meanwhile.
    driven = requests.drive(
        server.port, seconds, first=round * requests.number // 5, connections=work.connections
    )
    # Before the questions whether everything is copied.
    front = server.front_seconds() - front
    began = time.perf_counter()
    if work.items:
        server.drain()
    drained = time.perf_counter() - began
    server.settle()
    return Run(
        work=work.name,
        server=server.name,
        round=round,
        items=work.items,
        requests=driven.requests,
        seconds=driven.seconds,
        drained=drained if work.items else 0.0,
        errors=driven.errors,
        p99=driven.p99,
        p50=driven.p50,
        processor=server.processor_seconds() - busy,
        front=front,
    )


def told(run: Run) -> str:
    items = f", {run.rate * run.items:,.0f} items/s" if run.items > 1 else ""
    errors = f", {run.errors} ERRORS" if run.errors else ""
    return f"  {run.server:20} {run.rate:10,.0f} requests/s{items}, drained {run.drained:.2f} s{errors}"


def latencies(
    servers: Sequence[Server], *, rounds: int, seconds: int, folder: Path, say: Say
) -> list[Offered]:
    """
    Offer POSTs of one item at given rates.

    These are half of what each server can do, half of what the first one can do, half of what the slowest
    one can do, and several for a curve.
    """
    say(f"latency: {rounds} rounds of {seconds} s")
    tops = _tops(rates(ONE, servers, rounds=rounds, seconds=seconds, folder=folder, say=say))
    requests = [post(body) for body in ONE.make(1)]
    ours, common = tops[servers[0].name] / 2, min(tops.values()) / 2
    found: list[Offered] = []
    for round in range(rounds):
        # As in pairs.
        for server in servers if round % 2 == 0 else reversed(servers):
            top = tops[server.name]
            plan: list[tuple[Purpose, float]] = [("own", top / 2), ("ours", ours), ("common", common)]
            if round < _CURVES:
                plan += [("curve", top * part) for part in _CURVE]
            for purpose, rate in plan:
                found.append(_offer(server, purpose, round, rate, seconds, requests, say))
    return found


def _tops(runs: Sequence[Run]) -> dict[str, float]:
    servers = dict.fromkeys(run.server for run in runs)
    return {server: median(run.rate for run in runs if run.server == server) for server in servers}


def _offer(
    server: Server,
    purpose: Purpose,
    round: int,
    rate: float,
    seconds: int,
    requests: Sequence[bytes],
    say: Say,
) -> Offered:
    heard = offer(server.port, islice(cycle(requests), int(rate * seconds)), rate)
    server.drain()
    server.settle()
    took = [answer.latency for answer in heard.answers]
    offered = Offered(
        server=server.name,
        purpose=purpose,
        round=round,
        rate=rate,
        errors=heard.errors,
        p50=percentile(took, 50),
        p90=percentile(took, 90),
        p99=percentile(took, 99),
        most=max(took),
        late=percentile([answer.late for answer in heard.answers], 99),
    )
    say(
        f"  {server.name:20} {rate:10,.0f} offered: p50 {offered.p50 * 1e3:.1f} ms, "
        f"p99 {offered.p99 * 1e3:.1f} ms, most {offered.most * 1e3:.1f} ms, {offered.errors} errors"
    )
    return offered

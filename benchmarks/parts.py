"""
The parts of a benchmark: each measures something and adds it to the results.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.results import Run
from benchmarks.servers import Server
from benchmarks.works import Work
from benchmarks.wrk import Requests

Say = Callable[[str], None]


def rates(
    works: Sequence[Work],
    servers: Sequence[Server],
    *,
    rounds: int,
    seconds: int,
    folder: Path,
    say: Say,
) -> list[Run]:
    """
    Drive all servers in turn, round by round.

    Every other round goes backwards, so that none always follows the same one.
    """
    found: list[Run] = []
    for work in works:
        say(f"{work.title}: {rounds} rounds of {seconds} s")
        requests = prepare(work, folder)
        for round in range(rounds):
            if work.stamped and round:
                requests = prepare(work, folder, round)
            for server in servers if round % 2 == 0 else reversed(servers):
                # Each round begins elsewhere, the same place for all.
                run = drive(server, work, requests, round, seconds, first=round * requests.number // rounds)
                say(told(run))
                found.append(run)
    return found


def prepare(work: Work, folder: Path, seed: int = 0) -> Requests:
    return Requests(folder, work.name, work.method, work.make(seed))


def drive(server: Server, work: Work, requests: Requests, round: int, seconds: int, first: int = 0) -> Run:
    busy = server.processor_seconds()
    driven = requests.drive(server.port, seconds, first)
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
        processor=server.processor_seconds() - busy,
    )


def told(run: Run) -> str:
    items = f", {run.rate * run.items:,.0f} items/s" if run.items > 1 else ""
    errors = f", {run.errors} ERRORS" if run.errors else ""
    return f"  {run.server:20} {run.rate:10,.0f} requests/s{items}, drained {run.drained:.2f} s{errors}"

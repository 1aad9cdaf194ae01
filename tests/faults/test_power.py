"""
Loss of power of a real machine, as far as that can be had without one.

What a real node wrote, synced, renamed and removed is recorded. Then the power fails at every point of it, on
a disk in memory: what was synced is there, of the rest some is gone, torn or there.
"""

import http.client
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from random import Random

from dcounter.errors import CorruptJournal
from dcounter.testing import SimulatedDisk
from tests.faults.ledgers import ledger_on
from tests.faults.processes import Daemon, children, wait_until
from tests.faults.recording import Call, Replay, calls

_WRITERS = 4
_SEEDS = 5


class Writer:
    """
    A caller with a connection of its own.

    :ivar acknowledged: its port -> the IDs of each request that was answered with 200 there, in order.
    """

    def __init__(self, place: int, port: int) -> None:
        self.acknowledged: dict[int, list[list[int]]] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._next = 1_000_000 * place

    def close(self) -> None:
        self._connection.close()

    def store(self, requests: int) -> None:
        for _ in range(requests):
            ids = list(range(self._next, self._next + 3))
            self._next += len(ids)
            items = [{"ID": item, "tenant": "t"} for item in ids]
            try:
                self._connection.request("POST", "/items", json.dumps(items))
                port = self._connection.sock.getsockname()[1]
                answer = self._connection.getresponse()
                answer.read()
            except OSError:
                self._connection.close()
                continue
            if answer.status == 200:
                self.acknowledged.setdefault(port, []).append(ids)


def _load(writers: Iterable[Writer], requests: int) -> None:
    threads = [threading.Thread(target=each.store, args=[requests]) for each in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _record(directory: Path, trace: Path) -> dict[int, list[list[int]]]:
    """
    A node takes items and snapshots, is killed, starts again and goes on.
    """
    daemon = Daemon(directory, ["--nodes=1"], {"segment_bytes": 2_000, "snapshot_bytes": 6_000}, trace=trace)
    writers = [Writer(place, daemon.ports.http) for place in range(_WRITERS)]
    try:
        daemon.start()
        daemon.until_ready()
        _load(writers, 20)
        [old] = children(daemon.running.pid).values()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: children(daemon.running.pid).get(0, old) != old, "another process for node 0")
        daemon.until_ready()
        _load(writers, 10)
        assert daemon.running.stop() == 0
    finally:
        for each in writers:
            each.close()
        daemon.close()
    return {port: requests for each in writers for port, requests in each.acknowledged.items()}


def _answered(call: Call) -> int | None:
    """
    The port of the caller to whom this call begins to say that all is stored.
    """
    if call.begins and call.name == "sendto" and call.strings[0].startswith(b"HTTP/1.1 200"):
        return int(call.descriptors[0][1].rpartition(":")[2].rstrip("]"))
    return None


def _lost(disk: SimulatedDisk, stored: Iterable[int], seed: int) -> list[int]:
    """
    What is not there any more when the power fails now.
    """
    disk = deepcopy(disk)
    disk.lose_power(Random(seed))
    ledger = ledger_on(disk, 0, 1)
    return [item for item in stored if ledger.get(item) is None]


def _is_damaged(disk: SimulatedDisk, stored: Iterable[int], seed: int) -> bool:
    try:
        return bool(_lost(disk, stored, seed))
    except CorruptJournal:
        return True


def test_what_was_acknowledged_survives_a_loss_of_power_at_every_point(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    acknowledged = _record(tmp_path, trace)
    replay = Replay(tmp_path / "data" / "node-0")
    careless = Replay(tmp_path / "data" / "node-0", syncs=False)
    answers: Counter[int] = Counter()
    stored: list[int] = []
    points = 0
    for call in calls(trace):
        port = _answered(call)
        if port in acknowledged:
            stored += acknowledged[port][answers[port]]
            answers[port] += 1
        if replay.do(call):
            careless.do(call)
            points += 1
            for seed in range(_SEEDS):
                assert not _lost(replay.disk, stored, seed), f"lost at point {points}: {call}"
    assert answers == {port: len(requests) for port, requests in acknowledged.items()}
    assert len(stored) > 3 * _WRITERS * 20
    assert points > 200
    assert any(name.endswith(".snapshot") for name in replay.disk.list())
    # What is not synced would be noticed.
    assert any(_is_damaged(careless.disk, stored, seed) for seed in range(_SEEDS))

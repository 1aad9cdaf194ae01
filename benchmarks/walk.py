"""
A walk through all that a caller can do with many items: `python -m benchmarks.walk`.

Loads items into a daemon with its default settings, lists, erases the largest tenant, exports everything,
restores it into another daemon, and audits both. For each step it tells the time, the peak of each process's
memory, and the longest answers of two probes that go on meanwhile: `/healthz`, which only the coordinator
answers, and a count at the primary.
"""

import http.client
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from benchmarks.client import Probe, get
from benchmarks.processes import memory
from benchmarks.servers import Daemon, ServerFailed, ask

LARGEST: Final = "acme/largest"
# That tenant owns one item in so many.
_SHARE: Final = 10
_PAGE: Final = 1_000
_PIECE: Final = 10_000
_RATE: Final = 100.0
# Longest wait (s) for the answer of one step.
_PATIENCE: Final = 1_800.0
_NDJSON: Final = "application/x-ndjson"
# Odd, so that no two numbers below 2 to the power of 63 become one ID.
_FACTOR: Final = 0x5851F42D4C957F2D


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Walk, and print a row for each step.
    """
    parser = ArgumentParser("python -m benchmarks.walk", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000, help="default: 10,000,000")
    parser.add_argument("--tenants", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--work", type=Path, help="folder for data, on the disk to measure; default: /tmp")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="dcounter-walk-", dir=options.work))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _walk(folder, options.items, options.tenants, stack)
    return 0


def _walk(folder: Path, items: int, tenants: int, stack: ExitStack) -> None:
    daemon = _started(folder / "first", stack)
    step = _Steps(daemon)
    dump = folder / "dump"
    heads = ["step", "time (s)", "peak of the coordinator (MB)", "peak of the largest node (MB)"]
    heads += ["longest `/healthz` (ms)", "longest count (ms)", "result"]
    _say(f"| {' | '.join(heads)} |")
    _say("|---|---:|---:|---:|---:|---:|---|")
    step("load, one request of NDJSON", lambda: _load(daemon, _lines(items, tenants)))
    step("first page of names", lambda: _page(daemon, "name"))
    step("all pages of names", lambda: _pages(daemon, "/tenants?sort=name", "tenants"))
    step("top 100", lambda: _top(daemon))
    step(
        "all pages of IDs of the largest tenant",
        lambda: _pages(daemon, f"/tenants/{quote(LARGEST, '')}/items?", "IDs"),
    )
    step("audit", lambda: _audit(daemon))
    step("erase the largest tenant", lambda: _erase(daemon))
    step("export", lambda: _export(daemon, dump))
    _say(f"\nthe dump has {dump.stat().st_size:,} bytes\n")
    expected = _count_all(daemon)
    daemon.stop()
    other = _started(folder / "second", stack)
    step = _Steps(other)
    step("restore into a new daemon", lambda: _load(other, _read(dump)))
    step("audit of that", lambda: _audit(other))
    if _count_all(other) != expected:
        raise ServerFailed(f"the other daemon has {_count_all(other)}, not {expected}")


def _started(folder: Path, stack: ExitStack) -> Daemon:
    daemon = Daemon(folder)
    stack.callback(daemon.stop)
    daemon.start()
    return daemon


class _Steps:
    """
    Measures what is done with one daemon.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __call__(self, what: str, do: Callable[[], str]) -> None:
        daemon = self._daemon
        front, *nodes = daemon.pids()
        for pid in (front, *nodes):
            # 5: the peak is that of now. See proc(5).
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        probes = [
            Probe(daemon.port, get(path), _RATE)
            for path in (b"/healthz", b"/items/nobody/count?consistency=eventual")
        ]
        time.sleep(0.5)
        began = time.perf_counter()
        result = do()
        took = time.perf_counter() - began
        longest = []
        for probe in probes:
            heard = probe.stop()
            if heard.errors:
                result += f"; {heard.errors} errors of a probe"
            longest.append(
                max(answer.latency - answer.late for answer in heard.answers if answer.due >= began - 0.1)
            )
        peaks = [_peak(pid) / 1e6 for pid in (front, *nodes)]
        _say(
            f"| {what} | {took:.2f} | {peaks[0]:.0f} | {max(peaks[1:]):.0f} | {longest[0] * 1e3:.1f} | "
            f"{longest[1] * 1e3:.1f} | {result} |"
        )
        daemon.drain()
        daemon.settle()


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return memory(pid)


def _lines(items: int, tenants: int) -> Iterator[bytes]:
    """
    The lines of all items, in pieces.
    """
    chance = random.Random(1)
    names = [f"acme/{chance.getrandbits(40):010x}" for _ in range(tenants)]
    for first in range(0, items, _PIECE):
        yield b"".join(
            b'{"ID":%d,"tenant":"%b"}\n'
            % (
                (number * _FACTOR + 2**63) % 2**64 - 2**63,
                (LARGEST if number % _SHARE == 0 else names[number % tenants]).encode(),
            )
            for number in range(first, min(first + _PIECE, items))
        )


def _read(dump: Path) -> Iterator[bytes]:
    with dump.open("rb") as file:
        while piece := file.read(2**18):
            yield piece


def _request(
    daemon: Daemon, method: str, path: str, body: Any = None, **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_PATIENCE)
    # What only operators may do needs it.
    token = (daemon.folder / "data" / "operator-token").read_text().strip()
    headers |= {"Authorization": f"Bearer {token}"}
    connection.request(method, path, body, headers, encode_chunked=isinstance(body, Iterator))
    answer = connection.getresponse()
    if answer.status != 200:
        raise ServerFailed(f"{method} {path}: {answer.status} {answer.read()[:1000]!r}")
    return answer


def _load(daemon: Daemon, lines: Iterator[bytes]) -> str:
    answer = _request(
        daemon, "POST", "/items", lines, **{"Content-Type": _NDJSON, "Transfer-Encoding": "chunked"}
    )
    return f"{msgspec.json.decode(answer.read())['items']:,} items"


def _page(daemon: Daemon, sort: str) -> str:
    page = _asked(daemon, f"/tenants?sort={sort}&limit={_PAGE}")
    return f"{len(page['tenants']):,} names"


def _top(daemon: Daemon) -> str:
    _, page = ask(daemon.port, "/tenants?sort=-count&limit=100")
    first = page["tenants"][0]
    return f"first {first['tenant']}: {first['counter']:,}"


def _pages(daemon: Daemon, path: str, field: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_PATIENCE)
    found, pages, cursor, longest = 0, 0, "", 0.0
    while True:
        began = time.perf_counter()
        connection.request("GET", f"{path}&limit={_PAGE}" + (f"&cursor={quote(cursor)}" if cursor else ""))
        answer = connection.getresponse()
        page = msgspec.json.decode(answer.read())
        longest = max(longest, time.perf_counter() - began)
        if answer.status != 200:
            raise ServerFailed(f"{path}: {answer.status} {page}")
        found += len(page[field])
        pages += 1
        cursor = page.get("cursor") or ""
        if not cursor:
            return f"{found:,} in {pages:,} pages, the slowest {longest * 1e3:.0f} ms"


def _erase(daemon: Daemon) -> str:
    answer = msgspec.json.decode(_request(daemon, "DELETE", f"/tenants/{quote(LARGEST, '')}").read())
    return f"{answer['deleted']:,} deleted"


def _export(daemon: Daemon, dump: Path) -> str:
    answer = _request(daemon, "GET", "/export?deleted=1")
    with dump.open("wb") as file:
        shutil.copyfileobj(answer, file, 2**18)
    with dump.open("rb") as file:
        file.seek(-200, 2)
        return file.read().splitlines()[-1].decode()


def _audit(daemon: Daemon) -> str:
    answer = msgspec.json.decode(_request(daemon, "POST", "/audit", b"{}").read())
    return f"{answer['items']:,} items and {answer['tombstones']:,} tombstones, " + (
        "all nodes equal" if answer["equal"] else f"different: {answer['differences']}"
    )


def _count_all(daemon: Daemon) -> Any:
    sum_ = _asked(daemon, "/counts?prefix=acme/")
    return sum_["counter"], sum_["tenants"]


def _asked(daemon: Daemon, path: str) -> Any:
    """
    An answer.

    The first list or sum after a start puts all names in order, which may take longer than a question may.
    """
    until = time.monotonic() + 60
    while True:
        status, answer = ask(daemon.port, path, timeout=_PATIENCE)
        if status == 200:
            return answer
        if status != 503 or time.monotonic() > until:
            raise ServerFailed(f"{path}: {status} {answer}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the program's output


if __name__ == "__main__":
    sys.exit(main())

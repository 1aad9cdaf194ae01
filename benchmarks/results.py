"""
What a benchmark found, as it is kept in `results.json`; every number of the report comes from here.
"""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import msgspec

FOLDER: Final = Path(__file__).parent

Consistency = Literal["exact", "eventual"]
Purpose = Literal["own", "ours", "common", "curve"]


class Run(msgspec.Struct, frozen=True):
    """
    One run of wrk.

    :ivar seconds: how long wrk ran.
    :ivar drained: how long it took afterwards until every copy had everything.
    :ivar p99: seconds; at full load, so it says more about the queue than about the server.
    :ivar processor: seconds that all processes of the server were busy, until every copy had everything.
    :ivar front: seconds of it, while wrk ran, of the process that speaks HTTP: of ours, the coordinator.
    :ivar p50: seconds.
    """

    work: str
    server: str
    round: int
    items: int
    requests: int
    seconds: float
    drained: float
    errors: int
    p99: float
    processor: float
    front: float | None = None
    p50: float | None = None

    @property
    def rate(self) -> float:
        """
        Requests per second.
        """
        return self.requests / (self.seconds + self.drained)

    @property
    def front_each(self) -> float | None:
        """
        Seconds of `front` per request.
        """
        return None if self.front is None else self.front / self.requests


class Offered(msgspec.Struct, frozen=True):
    """
    POSTs of one item at a given rate.

    :ivar rate: requests per second.
    :ivar purpose: `own`: half of what the server can do; `ours`: half of what dcounter can do; `common`: half
        of what the slowest one can do; `curve`: one of several, for the plot.
    :ivar p50: latencies in seconds, and so on.
    :ivar late: by how much the client itself was late in 99 % of the requests: part of the latencies.
    """

    server: str
    purpose: Purpose
    round: int
    rate: float
    errors: int
    p50: float
    p90: float
    p99: float
    most: float
    late: float


class Growth(msgspec.Struct, frozen=True):
    """
    Items with new IDs stored as fast as possible, between two sizes.

    :ivar seconds: until they were on all nodes.
    """

    server: str
    before: int
    after: int
    seconds: float
    errors: int

    @property
    def rate(self) -> float:
        """
        Items per second.
        """
        return (self.after - self.before) / self.seconds


class Probed(msgspec.Struct, frozen=True):
    """
    How long counts took, asked every few milliseconds while a server grew.

    :ivar load: whether it grew as fast as it could (`full`), or half as fast.
    :ivar consistency: `eventual` counts do not wait for copies, so they show stalls only.
    :ivar p50: latencies in seconds, and so on.
    :ivar late: by how much the probe itself was late at most: part of the latencies.
    """

    server: str
    stored: int
    load: Literal["full", "half"]
    consistency: Consistency
    asked: int
    p50: float
    p99: float
    most: float
    late: float


class Memory(msgspec.Struct, frozen=True):
    """
    Memory before and after items were stored: of one node, or what Redis has allocated.
    """

    server: str
    items: int
    before: int
    after: int

    @property
    def each(self) -> float:
        """
        Bytes per item.
        """
        return (self.after - self.before) / self.items


class Start(msgspec.Struct, frozen=True):
    """
    How long it took from the start of the daemon to the first exact count.

    :ivar processor: seconds that all its processes were busy until then: the rest are waits.
    :ivar disk: bytes in the files of all nodes when it started.
    """

    items: int
    after: Literal["kill -9", "stop"]
    seconds: float
    processor: float | None = None
    disk: int | None = None


class Results(msgspec.Struct):
    """
    Everything.

    :ivar compared: runs of a large and of a small daemon.
    :ivar measured: part -> commit and time, as parts may have been measured one by one.
    """

    about: dict[str, str] = {}
    measured: dict[str, str] = {}
    runs: list[Run] = []
    offered: list[Offered] = []
    growth: list[Growth] = []
    compared: list[Run] = []
    probed: list[Probed] = []
    memory: list[Memory] = []
    starts: list[Start] = []


def read(path: Path) -> Results:
    return msgspec.json.decode(path.read_bytes(), type=Results)


def write(path: Path, results: Results) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def about() -> dict[str, str]:
    """
    The machine, and the versions of what is compared.
    """
    commit = _says("git", "-C", str(FOLDER), "rev-parse", "--short", "HEAD")
    if _says("git", "-C", str(FOLDER), "status", "--porcelain", "--", "../dcounter"):
        commit += " with changes"
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    packages = ["Twisted", "klein", "msgspec", "fastapi", "uvicorn", "uvloop", "redis", "hiredis", "asyncpg"]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commit": commit,
        "machine": f"{os.cpu_count()} cores ({_processor()}), {_memory():.0f} GiB",
        "system": f"{_distribution()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "Redis": _says("redis-server", "--version").split("v=")[1].split()[0],
        "PostgreSQL": _says(str(programs / "postgres"), "--version").split()[2],
        "wrk": _says("wrk", "-v").split()[1],
        **{package: version(package) for package in packages},
        "Node.js": _says("node", "--version"),
        **_node_packages(),
    }


def _node_packages() -> dict[str, str]:
    """
    Those that the peer names; their versions there are exact.
    """
    package = msgspec.json.decode((FOLDER / "peers/node_redis/package.json").read_bytes())
    named: dict[str, str] = package["dependencies"]
    return named


def _says(*command: str) -> str:
    # wrk's status is 1 when it tells its version.
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _distribution() -> str:
    return platform.freedesktop_os_release()["PRETTY_NAME"]

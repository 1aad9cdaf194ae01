"""
What a benchmark found, as it is kept in `results.json`; every number of the report comes from here.
"""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent


class Run(msgspec.Struct, frozen=True):
    """
    One run of wrk.

    :ivar seconds: how long wrk ran.
    :ivar drained: how long it took afterwards until every copy had everything.
    :ivar p99: seconds; at full load, so it says more about the queue than about the server.
    :ivar processor: seconds that all processes of the server were busy.
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

    @property
    def rate(self) -> float:
        """
        Requests per second.
        """
        return self.requests / (self.seconds + self.drained)


class Results(msgspec.Struct):
    """
    Everything.
    """

    about: dict[str, str] = {}
    runs: list[Run] = []


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
    } | {package: version(package) for package in packages}


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

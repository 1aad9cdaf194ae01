"""
Drives a server with wrk, as fast as it answers, and reads what wrk says of it.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

# Of a run that names no other number.
CONNECTIONS: Final = 16

# Of its own accord wrk calls every answer after 2 s an error: large requests to PostgreSQL take as long.
_TIMEOUT: Final = 30

# Everything is formatted before the first request: what wrk does between two is a look-up.
_SCRIPT: Final = """
local requests = {}
local next = 0
function init(args)
    local method, file = args[1], args[2]
    next = tonumber(args[3])
    for line in io.lines(file) do
        if method == "GET" then
            requests[#requests + 1] = wrk.format("GET", line)
        else
            requests[#requests + 1] = wrk.format(method, "/items", nil, line)
        end
    end
end
function request()
    next = next + 1
    return requests[next % #requests + 1]
end
function done(summary, latency, all)
    local e = summary.errors
    io.write(string.format(
        '\\n{"requests":%d,"us":%d,"not_ok":%d,"broken":%d,"p50_us":%d,"p99_us":%d}\\n',
        summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


class WrkFailed(Exception):
    """
    wrk gave no result.
    """


class _Summary(msgspec.Struct):
    requests: int
    us: int
    not_ok: int
    broken: int
    p50_us: int
    p99_us: int


@dataclass(frozen=True, slots=True)
class Driven:
    """
    What one run of wrk saw.

    :ivar errors: answers that are neither 2xx nor 3xx, and connections that broke or timed out.
    """

    requests: int
    seconds: float
    errors: int
    p50: float
    p99: float


def parse(output: str) -> Driven:
    """
    The line that our script writes, out of all that wrk writes.
    """
    for line in output.splitlines():
        if line.startswith("{"):
            summary = msgspec.json.decode(line, type=_Summary)
            return Driven(
                summary.requests,
                summary.us / 1e6,
                summary.not_ok + summary.broken,
                summary.p50_us / 1e6,
                summary.p99_us / 1e6,
            )
    raise WrkFailed(output)


class Requests:
    """
    Requests in a file, as wrk wants them.

    :ivar number: how many there are; after the last one wrk begins again.
    :param method: with `GET` the lines are paths, with `POST` they are bodies for `/items`.
    """

    def __init__(self, folder: Path, name: str, method: str, lines: Sequence[bytes]) -> None:
        self.number = len(lines)
        self._method = method
        self._file = folder / f"{name}.lines"
        self._file.write_bytes(b"\n".join(lines) + b"\n")
        self._script = folder / "requests.lua"
        self._script.write_text(_SCRIPT)

    def drive(self, port: int, seconds: int, *, first: int = 0, connections: int = CONNECTIONS) -> Driven:
        """
        Send one request after the other on each connection.

        :param first: the request to begin with.
        :raises WrkFailed: it gave no result.
        """
        ran = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={_TIMEOUT}s"),
                *("-s", self._script),
                *(f"http://127.0.0.1:{port}", "--", self._method, self._file, str(first)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise WrkFailed(ran.stdout + ran.stderr)
        return parse(ran.stdout)

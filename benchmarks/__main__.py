"""
Measures, prints tables, and writes `results.md` and plots: `python -m benchmarks --help`.
"""

import shutil
import signal
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import parts, report
from benchmarks.results import FOLDER, Results, about, write
from benchmarks.servers import BareKlein, BareResource, Daemon, FastApiPostgres, FastApiRedis, Server, check
from benchmarks.works import WORKS

SERVERS: dict[str, type[Server]] = {
    "redis": FastApiRedis,
    "postgres": FastApiPostgres,
    "klein": BareKlein,
    "resource": BareResource,
}


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the program's output


def _names(known: Sequence[str]) -> type[list[str]]:
    class Names(list[str]):
        def __init__(self, text: str) -> None:
            super().__init__(text.split(","))
            if wrong := set(self) - set(known):
                raise ValueError(f"unknown: {wrong}")

    return Names


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Do what the command line says.

    :returns: 1 if a run had errors.
    """
    parser = ArgumentParser(
        "python -m benchmarks", description="Measure dcounter and what one would build instead."
    )
    names = list(WORKS)
    parser.add_argument(
        "--only", type=_names(names), default=names, help=f"parts to run, of {','.join(names)}"
    )
    parser.add_argument(
        "--against", type=_names(list(SERVERS)), default=list(SERVERS), help=f"peers, of {','.join(SERVERS)}"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    parser.add_argument("--work", type=Path, help="folder for data, on the disk that is to be measured")
    parser.add_argument("--write", action="store_true", help="write results.md even if only some parts ran")
    options = parser.parse_args(arguments)
    whole = options.only == names and options.against == list(SERVERS)

    # Else the servers would outlive us.
    signal.signal(signal.SIGTERM, _leave)
    results = Results(about=about() | {"each run": f"{options.seconds} s, {options.rounds} rounds"})
    with ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="dcounter-bench-", dir=options.work))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        # PostgreSQL's own user must get through.
        work.chmod(0o755)
        servers: list[Server] = []
        kinds: list[type[Server]] = [Daemon, *(SERVERS[name] for name in options.against)]
        for kind in kinds:
            server = kind(work / kind.__name__)
            stack.callback(server.stop)
            server.start()
            check(server)
            servers.append(server)
        _say(f"{len(servers)} servers are up and do what they must; data is in {work}")
        works = [WORKS[name] for name in options.only if name in WORKS]
        results.runs = parts.rates(
            works, servers, rounds=options.rounds, seconds=options.seconds, folder=work, say=_say
        )
    if whole or options.write:
        write(FOLDER / "results.json", results)
        (FOLDER / "results.md").write_text(report.markdown(results))
        _say(f"written: {FOLDER / 'results.md'}")
    _say(report.markdown(results))
    return 1 if report.bad(results.runs) else 0


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())

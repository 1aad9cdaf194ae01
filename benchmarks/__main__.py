"""
Measures, prints tables, and writes `results.md` and plots: `python -m benchmarks --help`.
"""

import shutil
import signal
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec

from benchmarks import goals, plots, report
from benchmarks.growth import grow
from benchmarks.parts import latencies, rates
from benchmarks.results import FOLDER, Results, about, read, write
from benchmarks.servers import (
    BareKlein,
    BareResource,
    Daemon,
    FastApiPostgres,
    FastApiRedis,
    NodeRedis,
    Server,
    check,
)
from benchmarks.works import WORKS

_PEERS: Final[dict[str, type[Server]]] = {
    "redis": FastApiRedis,
    "node": NodeRedis,
    "postgres": FastApiPostgres,
    "klein": BareKlein,
    "resource": BareResource,
}
_PARTS: Final = [*WORKS, "latency", "grow"]
_RESULTS: Final = FOLDER / "results.json"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the program's output


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = text.split(",")
        if wrong := set(found) - set(known):
            raise ArgumentTypeError(f"there is no {', '.join(sorted(wrong))}; there are {', '.join(known)}")
        return found

    return names


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser("python -m benchmarks", description="Measure dcounter and its alternatives.")
    parser.add_argument(
        "--only", type=_names(_PARTS), default=_PARTS, help=f"parts to run, of {','.join(_PARTS)}"
    )
    parser.add_argument(
        "--against", type=_names(_PEERS), default=list(_PEERS), help=f"peers, of {','.join(_PEERS)}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=int, default=5, help="length of each run; default: 5")
    parser.add_argument("--items", type=int, default=1_000_000, help="to grow to; default: 1,000,000")
    parser.add_argument(
        "--large", dest="items", action="store_const", const=goals.MANY, help="grow to 10,000,000 items"
    )
    parser.add_argument("--work", type=Path, help="folder for data, on the disk to measure; default: /tmp")
    parser.add_argument(
        "--write", action="store_true", help="put these parts into results.md, even if they are not all"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Do what the command line says.

    :returns: 1 if a run had errors.
    """
    options = _options(arguments)
    # Else the servers would outlive us.
    signal.signal(signal.SIGTERM, _leave)
    results = Results()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="dcounter-bench-", dir=options.work))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # PostgreSQL's own user must get through.
        folder.chmod(0o755)
        _measure(options, results, folder)
    results.about = about() | {"each run": f"{options.seconds} s, {options.rounds} rounds"}
    results.measured = dict.fromkeys(
        options.only,
        f"commit {results.about['commit']}, {results.about['date']}, {results.about['each run']}",
    )
    _say("\n" + report.markdown(results))
    if options.write or (options.only == _PARTS and options.against == list(_PEERS)):
        _write(results)
    return 1 if report.bad([*results.runs, *results.compared]) else 0


def _measure(options: Namespace, results: Results, folder: Path) -> None:
    rounds, seconds = options.rounds, options.seconds
    works = [WORKS[name] for name in options.only if name in WORKS]
    with ExitStack() as stack:
        kinds: list[type[Server]] = [Daemon, *(_PEERS[name] for name in options.against)]
        servers = [kind(folder / kind.__name__) for kind in kinds]
        if works or "latency" in options.only:
            for server in servers:
                stack.callback(server.stop)
                server.start()
                check(server)
            _say(f"{len(servers)} servers are up and do what they must; their data is in {folder}")
        for work in works:
            results.runs += rates(work, servers, rounds=rounds, seconds=seconds, folder=folder, say=_say)
        if "latency" in options.only:
            rivals = [server for server in servers if isinstance(server, Daemon | FastApiRedis | NodeRedis)]
            results.offered = latencies(rivals, rounds=rounds, seconds=seconds, folder=folder, say=_say)
    if "grow" in options.only:
        grown = grow(options.items, rounds=rounds, seconds=seconds, folder=folder, say=_say)
        _take(grown, into=results)


def _take(new: Results, *, into: Results) -> None:
    """
    Take over all lists of `new` that are not empty.
    """
    for field in msgspec.structs.fields(Results):
        value = getattr(new, field.name)
        if value and isinstance(value, list):
            setattr(into, field.name, value)


def _write(results: Results) -> None:
    """
    Put what was measured in the place of what was known of it.
    """
    known = read(_RESULTS) if _RESULTS.exists() else Results()
    runs = [run for run in known.runs if run.work not in results.measured] + results.runs
    _take(results, into=known)
    known.runs = runs
    known.about = results.about
    known.measured |= results.measured
    write(_RESULTS, known)
    drawn = plots.draw(known, FOLDER / "plots")
    pictures = "\n".join(f"![{name}](plots/{name}.png)\n" for name in drawn)
    (FOLDER / "results.md").write_text(report.markdown(known) + f"\n## Plots\n\n{pictures}")
    _say(f"written: {FOLDER / 'results.md'}")


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())

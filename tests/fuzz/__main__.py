"""
Fuzzes with atheris: `make fuzz`, or `python -m tests.fuzz --seconds 600 body http`.

Each target runs in a process of its own, one after the other. What it learns stays in `.fuzz/TARGET`, and it
goes on from there the next time. An input that shows a defect is written to `.fuzz/TARGET-crash-...`, and the
exit status is 1.
"""

import argparse
import subprocess
import sys
from pathlib import Path

_KEPT = Path(".fuzz")
_MOST_BYTES = 20_000
_MOST_MEBIBYTES = 700
_MOST_SECONDS = 10
"""
For one input; what takes longer is a defect, since the reactor would be stopped.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="all of them, if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        _fuzz(arguments.targets[0], arguments.seconds)
    # After the above, which must see each import.
    from tests.fuzz.targets import TARGETS

    unknown = {*arguments.targets} - TARGETS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    failed = []
    for name in arguments.targets or TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", "--in-process", name]
        print(f"=== {name}", flush=True)  # noqa: T201 - the program's output
        if subprocess.run([*command, "--seconds", str(arguments.seconds)], check=False).returncode:
            failed.append(name)
    end = f"defects found by: {', '.join(failed)}" if failed else "no defect found"
    print(end, flush=True)  # noqa: T201 - the program's output
    return bool(failed)


def _fuzz(name: str, seconds: int) -> None:
    """
    Fuzz one target; never returns.
    """
    import atheris

    with atheris.instrument_imports(include=["dcounter"]):
        from tests.fuzz.answers import Defect
        from tests.fuzz.seeds import seeds
        from tests.fuzz.targets import TARGETS
    failures = _watch_log()

    def check(data: bytes) -> None:
        TARGETS[name](data)
        if failures:
            raise Defect(f"a failure was logged: {failures[0]}")

    directory = _KEPT / name
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (directory / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_MOST_BYTES}",
        f"-rss_limit_mb={_MOST_MEBIBYTES}",
        f"-timeout={_MOST_SECONDS}",
        f"-artifact_prefix={_KEPT / name}-",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    atheris.Setup([name, *options, str(directory)], check)
    atheris.Fuzz()


def _watch_log() -> list[str]:
    """
    Send the log to a list, which keeps the failures in it.
    """
    from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
    from zope.interface import implementer

    failures: list[str] = []

    @implementer(ILogObserver)
    class Failures:
        def __call__(self, event: LogEvent) -> None:
            if "log_failure" in event:
                failures.append(event["log_failure"].getTraceback())

    globalLogBeginner.beginLoggingTo([Failures()], discardBuffer=True, redirectStandardIO=False)
    return failures


if __name__ == "__main__":
    sys.exit(main())

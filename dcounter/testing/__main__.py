"""
Plays simulated worlds from seeds: `python -m dcounter.testing --seeds 0:1000`.
"""

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from os import cpu_count
from pathlib import Path

from dcounter.testing.digest import digest
from dcounter.testing.play import play
from dcounter.testing.seeds import each, silence_log
from dcounter.testing.setting import Setting
from dcounter.testing.shrink import shrink


def _seeds(text: str) -> range:
    first, _, end = text.partition(":")
    try:
        seeds = range(int(first), int(end))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not FIRST:END, for example 0:1000") from None
    if not seeds:
        raise ArgumentTypeError(f"no seed lies in {text}")
    return seeds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not an integer >= 1")
    return int(text)


def _play(setting: Setting, seed: int) -> tuple[int, str | None, int]:
    history = play(seed, setting)
    return seed, history.problems[0] if history.problems else None, history.exact


def _play_many(seeds: range, setting: Setting, jobs: int) -> int:
    began = time.monotonic()
    failed = []
    counts = 0
    with each(seeds, jobs, partial(_play, setting)) as played:
        for seed, problem, exact in played:
            counts += exact
            if problem is not None:
                failed.append(seed)
                print(f"seed {seed}: {problem}", flush=True)  # noqa: T201 - the program's output
    seconds = time.monotonic() - began
    print(  # noqa: T201 - the program's output
        f"{len(seeds)} seeds, {len(failed)} failed {sorted(failed)}; "
        f"{counts} exact counts checked; {seconds:.1f} s, {jobs} processes"
    )
    return 1 if failed else 0


def _digest(events: int, seed: int) -> tuple[int, list[str]]:
    return seed, digest(seed, events)


def _write_digests(path: Path, seeds: range, events: int, jobs: int) -> int:
    """
    Write a line for each seed: itself, and the digests of its stories.
    """
    with each(seeds, jobs, partial(_digest, events)) as played:
        digests = sorted(played)
    text = "".join(f"{seed} {' '.join(both)}\n" for seed, both in digests)
    path.write_text(text)
    print(f"{len(seeds)} seeds, {sha256(text.encode()).hexdigest()}")  # noqa: T201 - the program's output
    return 0


def _play_one(seed: int, setting: Setting, *, trace: bool, shorter: bool) -> int:
    silence_log()
    if shorter and play(seed, setting).problems:
        setting = shrink(seed, setting)
    history = play(seed, setting, trace=trace)
    for line in history.log:
        print(line)  # noqa: T201 - the program's output
    left = setting.events - len(setting.without)
    print(f"seed {seed}: {left} events, {len(history.problems)} problems")  # noqa: T201 - ditto
    return 1 if history.problems else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "python -m dcounter.testing",
        description="Play simulated worlds: each seed is a cluster, its callers, and what breaks.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", type=_seeds, metavar="FIRST:END", help="play many seeds, END not included")
    which.add_argument("--seed", type=int, help="play one seed and print its story")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all log messages too")
    parser.add_argument(
        "--shrink",
        action="store_true",
        help="with --seed: drop the events without which it still fails",
    )
    parser.add_argument(
        "--digest",
        type=Path,
        metavar="FILE",
        help="with --seeds: only write a digest of each story to FILE, with and without disks",
    )
    parser.add_argument("--memory", action="store_true", help="nodes keep no journal on disk")
    parser.add_argument("--events", type=_positive, default=50, help="events per seed (default: 50)")
    parser.add_argument(
        "--jobs", type=_positive, default=cpu_count() or 1, help="processes (default: one per core)"
    )
    return parser


def main(arguments: Sequence[str] | None = None, setting: Setting | None = None) -> int:
    """
    Run the command line.

    :param setting: what the command line does not decide.
    :returns: 0 if no seed failed.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    setting = replace(setting or Setting(), disks=not given.memory, events=given.events)
    if given.seeds is None:
        if given.digest is not None:
            parser.error("--digest needs --seeds")
        return _play_one(given.seed, setting, trace=given.trace, shorter=given.shrink)
    if given.trace or given.shrink:
        parser.error("--trace and --shrink need --seed")
    if given.digest is None:
        return _play_many(given.seeds, setting, given.jobs)
    if given.memory:
        parser.error("--digest plays each seed with and without disks: leave out --memory")
    return _write_digests(given.digest, given.seeds, given.events, given.jobs)


if __name__ == "__main__":
    sys.exit(main())

"""
Plays simulated worlds from seeds: `python -m dcounter.testing --seeds 0:1000`.
"""

import gc
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from multiprocessing import Pool
from os import cpu_count
from pathlib import Path
from typing import TypeVar

from twisted.logger import globalLogBeginner

from dcounter.testing.play import play
from dcounter.testing.setting import Setting
from dcounter.testing.shrink import shrink

_T = TypeVar("_T")


def _seeds(text: str) -> range:
    first, _, end = text.partition(":")
    return range(int(first), int(end))


def _quietly() -> None:
    """
    Until logging has begun, Twisted keeps events.
    """
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)


def _start_worker() -> None:
    _quietly()
    # Garbage is looked for after each world: not among what is always there.
    gc.freeze()


@contextmanager
def _each(seeds: range, jobs: int, play_seed: Callable[[int], _T]) -> Iterator[Iterable[_T]]:
    """
    What a function makes of each seed, in any order.
    """
    with ExitStack() as stack:
        if jobs == 1:
            # Nothing is to be shared out, and it can be debugged.
            _quietly()
            yield map(play_seed, seeds)
        else:
            pool = stack.enter_context(Pool(jobs, _start_worker))
            yield pool.imap_unordered(play_seed, seeds, 4)


def _play(setting: Setting, seed: int) -> tuple[int, str | None, int]:
    history = play(seed, setting)
    return seed, history.problems[0] if history.problems else None, history.exact


def _play_many(seeds: range, setting: Setting, jobs: int) -> int:
    began = time.monotonic()
    failed = []
    counts = 0
    with _each(seeds, jobs, partial(_play, setting)) as played:
        for seed, problem, exact in played:
            counts += exact
            if problem is not None:
                failed.append(seed)
                print(f"seed {seed}: {problem}", flush=True)  # noqa: T201 - the program's output
    seconds = time.monotonic() - began
    print(  # noqa: T201 - the program's output
        f"{len(seeds)} seeds, {len(failed)} failed {sorted(failed)}; "
        f"{counts} exact counts checked; {seconds:.1f} s on {jobs} cores"
    )
    return 1 if failed else 0


def _digest(events: int, seed: int) -> tuple[int, list[str]]:
    stories = (play(seed, Setting(disks=disks, events=events), trace=True) for disks in (True, False))
    return seed, [sha256("\n".join([*each.log, *each.problems]).encode()).hexdigest() for each in stories]


def _write_digests(path: Path, seeds: range, events: int, jobs: int) -> int:
    """
    Write a line for each seed: itself, and the digests of its whole story with and without disks.

    A change that only moves code leaves each story as it was.
    """
    with _each(seeds, jobs, partial(_digest, events)) as played:
        told = sorted(played)
    text = "".join(f"{seed} {' '.join(digests)}\n" for seed, digests in told)
    path.write_text(text)
    print(f"{len(seeds)} seeds, {sha256(text.encode()).hexdigest()}")  # noqa: T201 - the program's output
    return 0


def _play_one(seed: int, setting: Setting, *, trace: bool, shorter: bool) -> int:
    _quietly()
    if shorter and play(seed, setting).problems:
        setting = shrink(seed, setting)
    history = play(seed, setting, trace=trace)
    for line in history.log:
        print(line)  # noqa: T201 - the program's output
    left = setting.events - len(setting.without)
    print(f"seed {seed}: {left} events, {len(history.problems)} problems")  # noqa: T201 - ditto
    return 1 if history.problems else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Do what the command line says.

    :returns: 0 if no seed failed.
    """
    parser = ArgumentParser("python -m dcounter.testing", description="Play simulated worlds from seeds.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", type=_seeds, metavar="FIRST:END", help="play many, on all cores")
    which.add_argument("--seed", type=int, help="play one, and tell its story")
    parser.add_argument("--trace", action="store_true", help="with all that is logged")
    parser.add_argument("--shrink", action="store_true", help="leave out what it fails without")
    parser.add_argument(
        "--digest", type=Path, metavar="FILE", help="write a digest of the whole story of each of --seeds"
    )
    parser.add_argument("--memory", action="store_true", help="nodes without disks")
    parser.add_argument("--events", type=int, default=50, help="how much happens in each (default: 50)")
    parser.add_argument(
        "--jobs", type=int, default=cpu_count() or 1, help="processes (default: one per core)"
    )
    given = parser.parse_args(arguments)
    setting = Setting(disks=not given.memory, events=given.events)
    if given.digest is not None:
        if given.seeds is None:
            parser.error("--digest needs --seeds")
        return _write_digests(given.digest, given.seeds, given.events, given.jobs)
    if given.seeds is not None:
        return _play_many(given.seeds, setting, given.jobs)
    return _play_one(given.seed, setting, trace=given.trace, shorter=given.shrink)


if __name__ == "__main__":
    sys.exit(main())

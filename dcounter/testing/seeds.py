"""
Plays many seeds, in as many processes as are wanted.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import Pool
from typing import TypeVar

from twisted.logger import globalLogBeginner

_T = TypeVar("_T")


def silence_log() -> None:
    """
    Begin logging, to nowhere: until then Twisted keeps all events.
    """
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)


def _start_worker() -> None:
    silence_log()
    # Garbage is looked for after each world: not among what is always there.
    gc.freeze()


@contextmanager
def each(seeds: range, jobs: int, play_seed: Callable[[int], _T]) -> Iterator[Iterable[_T]]:
    """
    What a function makes of each seed, in any order.

    :param jobs: how many processes; with 1 it is this one, which can be debugged.
    """
    if jobs == 1:
        silence_log()
        yield map(play_seed, seeds)
    else:
        with Pool(jobs, _start_worker) as pool:
            yield pool.imap_unordered(play_seed, seeds, 4)

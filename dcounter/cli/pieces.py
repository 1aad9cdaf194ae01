"""
Cuts the items of a file into pieces that are sent at once, in a thread: a file may keep its reader waiting.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from threading import Thread
from typing import Any, Final, TypeVar, cast

from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from dcounter.cli.failures import Failed
from dcounter.cli.formats import Entry, Measured
from dcounter.cli.sending import Line, Mistake, Piece
from dcounter.cli.stamping import NoJson, Stamps
from dcounter.http.dumps import END_BEGIN, HEADER_BEGIN

_MOST_LINES: Final = 2_000
_MOST_BYTES: Final = 512 * 1024
"""
What a piece may hold: enough that a request is worth its trouble, and not so much that others wait for it.
"""

_T = TypeVar("_T")


def pieces(entries: Iterable[Entry | None], stamps: Stamps, file: Measured) -> Iterator[Piece]:
    """
    The items of a file, stamped and in pieces. What has arrived does not wait for more.

    :raises Failed: it is an export of which lines are missing.
    """
    lines: list[Line] = []
    mistakes: list[Mistake] = []
    size = 0
    whole = True
    broken: Failed | None = None
    reading = iter(entries)
    while True:
        try:
            entry = next(reading)
        except StopIteration:
            break
        except Failed as error:
            broken = error
            break
        if entry is None:
            if not file.waits():
                continue
        elif entry.text.startswith((HEADER_BEGIN, END_BEGIN)):
            # The first and the last line of an export hold no items.
            whole = entry.text.startswith(END_BEGIN)
            continue
        else:
            number, source = entry
            item = b""
            try:
                item = stamps.stamped(number, source)
                lines.append(Line(number, source, item))
            except NoJson as error:
                mistakes.append(Mistake(Line(number, source, source), str(error)))
            size += len(source) + len(item)
            if len(lines) + len(mistakes) < _MOST_LINES and size < _MOST_BYTES:
                continue
        if lines or mistakes:
            yield Piece(lines, mistakes, file.read_bytes)
            lines, mistakes, size = [], [], 0
    if lines or mistakes:
        yield Piece(lines, mistakes, file.read_bytes)
    if broken is not None:
        raise broken
    if not whole:
        raise Failed("the export is cut short: its last line is missing", "All lines that it has were sent.")


def in_thread(reactor: Any, things: Iterator[_T]) -> Callable[[], Awaitable[_T | None]]:
    """
    What gives the things one by one, and takes each in a thread; `None` at the end.
    """
    pool = ThreadPool(0, 1, "input")
    # A process that ends must not wait for input that may never come.
    cast(Any, pool).threadFactory = partial(Thread, daemon=True)
    pool.start()
    return lambda: deferToThreadPool(reactor, pool, next, things, None)

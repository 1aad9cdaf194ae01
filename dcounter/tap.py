"""
The `twistd dcounter` command: what twistd asks for.

`twistd dcounter` is a coordinator with HTTP; it starts its nodes, or joins nodes that run elsewhere.
`twistd dcounter node` is one node.
"""

import atexit
import gc
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

from twisted.application.service import IService

from dcounter.daemon.children import report_progress
from dcounter.daemon.options import NodeOptions, Options
from dcounter.errors import ConfigurationError
from dcounter.node.progress import CANNOT_START, Progress


def makeService(options: Options, reactor: Any = None) -> IService:
    """
    Build the daemon: nodes, a coordinator over them, HTTP over the coordinator; or one node.

    :param reactor: Twisted's own unless a test brings one.
    :raises SystemExit: it cannot work; the message says why.
    """
    clear_little_at_once()
    # NumPy reads that when it is imported.
    from dcounter.daemon.wiring import make_daemon, make_node

    at_exit: Callable[[Callable[[], None]], object] = _nothing
    if reactor is None:
        from twisted.internet import reactor

        at_exit = atexit.register
        # Until the reactor runs: a reload that comes while we start must not be the end.
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        keep_steady_time(reactor)
        # What is there by then stays. To look through it took the collector 25 ms, every few seconds.
        cast(Any, reactor).callWhenRunning(gc.freeze)
    try:
        if options.subCommand == "node":
            return make_node(cast(NodeOptions, options.subOptions), reactor)
        with ExitStack() as undo:
            daemon = make_daemon(options, reactor, undo)
            # Twistd may fail before it starts anything, and tells nobody.
            at_exit(undo.pop_all().close)
            return daemon
    except ConfigurationError as error:
        if options.subCommand == "node" and cast(NodeOptions, options.subOptions)["status"]:
            # Its parent says it, once, and not for each try.
            report_progress(
                cast(NodeOptions, options.subOptions)["status"], Progress("cannot start", str(error))
            )
            raise SystemExit(CANNOT_START) from error
        raise SystemExit(f"dcounter does not start: {error}") from error


def clear_little_at_once() -> None:
    """
    Have NumPy's arrays in small pages.

    A hash table that has grown is written to all over: in pages of 2 MiB, the system would have to clear all
    of it in that moment, a quarter of a second with 10 million items.
    """
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")


def keep_steady_time(reactor: Any) -> None:
    """
    Have a reactor's timers follow a clock that nobody sets.

    Twisted's follow the wall clock: after it was set back by an hour, no heartbeat would be sent and no
    deadline would pass for an hour.
    """
    # Calls that wait already are due by the same count.
    ahead = reactor.seconds() - time.monotonic()
    reactor.seconds = lambda: ahead + time.monotonic()


def _nothing(undo: Callable[[], None]) -> None:
    # A test ends what it has built.
    pass

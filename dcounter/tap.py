"""
The `twistd dcounter` command: its options, and the service that twistd runs.

`twistd dcounter` is a coordinator with HTTP, which starts its nodes or joins nodes that run elsewhere.
`twistd dcounter node` is a single node.
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
    Build the daemon (nodes, a coordinator over them, HTTP over the coordinator) or a single node.

    :param reactor: Twisted's own unless a test passes another one.
    :raises SystemExit: the daemon cannot start; the message says why.
    """
    use_small_pages()
    # NumPy reads the environment when it is imported.
    from dcounter.daemon.node_wiring import make_node
    from dcounter.daemon.wiring import make_daemon

    at_exit: Callable[[Callable[[], None]], object] = _nothing
    if reactor is None:
        from twisted.internet import reactor

        at_exit = atexit.register
        # Until the reactor runs, a signal to reload must not end the process.
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        keep_steady_time(reactor)
        cast(Any, reactor).callWhenRunning(calm_collector)
    try:
        if options.subCommand == "node":
            return make_node(cast(NodeOptions, options.subOptions), reactor)
        with ExitStack() as undo:
            daemon = make_daemon(options, reactor, undo)
            # twistd may fail before it starts any service, and does not tell us.
            at_exit(undo.pop_all().close)
            return daemon
    except ConfigurationError as error:
        if options.subCommand == "node" and cast(NodeOptions, options.subOptions)["status"]:
            # The parent logs it, once rather than at every try.
            report_progress(
                cast(NodeOptions, options.subOptions)["status"], Progress("cannot start", str(error))
            )
            raise SystemExit(CANNOT_START) from error
        raise SystemExit(f"dcounter does not start: {error}") from error


def calm_collector() -> None:
    """
    Have the garbage collector look less often, and not at what lives for ever.

    Objects of the start do: scanning them took 25 ms, every few seconds. And requests under way are more than
    the 700 objects after which it looks otherwise, each time in vain: a twentieth of what a request costs.
    """
    gc.freeze()
    gc.set_threshold(5_000)


def use_small_pages() -> None:
    """
    Have the system clear the memory of NumPy's arrays in small pages.

    A hash table that has grown is written to at random places. With pages of 2 MiB the system would have to
    clear all of the table at that moment, which takes a quarter of a second with 10 million items.
    """
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")


def keep_steady_time(reactor: Any) -> None:
    """
    Make a reactor's timers follow the monotonic clock.

    Twisted's timers follow the wall clock. After that was set back by an hour, no heartbeat would be sent and
    no deadline would pass for an hour.
    """
    # Calls that are already scheduled keep their due time.
    ahead = reactor.seconds() - time.monotonic()
    reactor.seconds = lambda: ahead + time.monotonic()


def _nothing(undo: Callable[[], None]) -> None:
    # A test closes what it has built.
    pass

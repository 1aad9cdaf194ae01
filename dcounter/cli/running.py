"""
Runs the coroutine of a command under the reactor. It is imported when a command that calls a daemon runs.
"""

import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dcounter.cli.exits import Exit
from dcounter.cli.explaining import explained
from dcounter.cli.failures import Failed, Stopped
from dcounter.cli.output import Output
from dcounter.cli.session import Session
from dcounter.cli.settings import Settings
from dcounter.client import Client
from dcounter.errors import DcounterError

_LONGEST_TOKEN: Final = 1024
_LONGEST_CERTIFICATE: Final = 1024 * 1024
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


def run(
    settings: Settings, work: Callable[[Session], Coroutine[Any, Any, Exit | None]], reactor: Any = None
) -> Exit | None:
    """
    Run a coroutine to its end.

    :param reactor: Twisted's own unless a test passes another one.
    :raises Failed: it failed; the error says why in words.
    :raises Stopped: a signal ended it.
    """
    if reactor is None:
        from twisted.internet import reactor

    try:
        client = Client(settings.url, reactor, token=_token(settings), certificate=_certificate(settings))
    except ValueError as error:
        raise Failed(f"--cert {settings.cert}: {error}", "Nothing was sent.", exit=Exit.USAGE) from error
    session = Session(settings.url, client, Output(json=settings.json), reactor, time.time_ns)
    ends: list[Exit | Failure | None] = []

    def end(result: Exit | Failure | None) -> None:
        ends.append(result)
        reactor.stop()

    running: list[Deferred[None]] = []

    def start() -> None:
        running.append(Deferred.fromCoroutine(work(session)).addBoth(end))

    def cancel() -> None:
        for each in running:
            each.cancel()

    reactor.callWhenRunning(start)
    with _stopping(reactor, cancel) as signals:
        reactor.run(installSignalHandlers=False)
    (result,) = ends
    if signals:
        raise Stopped(signals[0])
    if not isinstance(result, Failure):
        return result
    try:
        result.raiseException()
    except CancelledError as error:
        raise Failed("the request was cancelled", code="cancelled") from error
    except DcounterError as error:
        raise explained(error, settings.url) from error


@contextmanager
def _stopping(reactor: Any, cancel: Callable[[], None]) -> Iterator[list[int]]:
    """
    Have signals that end a process cancel the work; the second one ends the process at once.

    :returns: the signals that came.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each in heard:
            signal.signal(each, signal.SIG_DFL)
        reactor.callFromThread(cancel)

    # What the parent process has ignored, such as a shell for a job in the background, stays so.
    heard = [each for each in _STOPPING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in heard}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _certificate(settings: Settings) -> bytes | None:
    """
    The certificate to show, and its private key.

    :raises Failed: the file cannot be read.
    """
    if settings.cert is None:
        return None
    try:
        with open(settings.cert, "rb") as file:
            return file.read(_LONGEST_CERTIFICATE)
    except OSError as error:
        raise Failed(f"--cert cannot be read: {error.strerror}: {settings.cert}", exit=Exit.USAGE) from error


def _token(settings: Settings) -> str | None:
    """
    The token to show.

    :raises Failed: the file cannot be read, or holds none.
    """
    token, where = settings.token, "DCOUNTER_TOKEN"
    if settings.token_file is not None:
        where = settings.token_file
        try:
            with open(where, encoding="ascii") as file:
                token = file.read(_LONGEST_TOKEN + 1).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Failed(f"the token cannot be read: {why}: {where}", exit=Exit.USAGE) from error
    if token is None:
        return None
    if not 0 < len(token) <= _LONGEST_TOKEN or not all("!" <= each <= "~" for each in token):
        raise Failed(f"{where} does not hold a token, and nothing else", "Nothing was sent.", exit=Exit.USAGE)
    return token

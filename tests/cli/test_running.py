"""
The coroutine of a command runs under a reactor, and its end is that of the command.
"""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed, Stopped
from dcounter.cli.running import run
from dcounter.cli.session import Session
from dcounter.cli.settings import Settings
from dcounter.client import Unreachable
from tests.support.certificates import Authority


class Reactor(MemoryReactorClock):
    """
    A reactor that runs until it is stopped, or until the test sends a signal.
    """

    def run(self, installSignalHandlers: bool = True) -> None:
        assert not installSignalHandlers
        super().run()


def start(settings: Settings, result: Any) -> Any:
    reactor = Reactor()
    found: list[Session] = []

    async def work(session: Session) -> Exit | None:
        found.append(session)
        if isinstance(result, BaseException):
            raise result
        return result  # type: ignore[no-any-return]

    ended = run(settings, work, reactor)
    assert reactor.hasStopped
    [session] = found
    assert session.output.json is settings.json
    return ended


@pytest.mark.parametrize("result", [None, Exit.NO])
def test_a_result_is_returned(result: Exit | None) -> None:
    assert start(Settings(), result) is result
    assert start(Settings(json=True), result) is result


def test_an_error_of_the_client_is_explained() -> None:
    with pytest.raises(Failed, match="no answer from http"):
        start(Settings(), Unreachable(TimeoutError(), sent=True))


def test_any_other_error_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        start(Settings(), ZeroDivisionError())


def test_a_token_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("dct_secret\n")
    assert start(Settings(token_file=str(file), token="other"), None) is None
    for bad in ("", "two words", "ü", "x" * 5_000):
        file.write_text(bad)
        with pytest.raises(Failed, match="token"):
            start(Settings(token_file=str(file)), None)
    with pytest.raises(Failed, match=r"the token cannot be read: No such file"):
        start(Settings(token_file=str(tmp_path / "none")), None)


def test_a_token_in_the_environment_is_looked_at() -> None:
    with pytest.raises(Failed, match="DCOUNTER_TOKEN does not hold a token"):
        start(Settings(token="two words"), None)
    assert start(Settings(token="dct_secret"), None) is None


def test_a_certificate_comes_with_its_key_from_a_file(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "ours").issue("caller")
    both = tmp_path / "both"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert start(Settings(cert=str(both)), None) is None
    with pytest.raises(Failed, match="does not hold a certificate and its private key"):
        start(Settings(cert=str(certificate)), None)
    with pytest.raises(Failed, match="--cert cannot be read: No such file"):
        start(Settings(cert=str(tmp_path / "none")), None)


def test_a_signal_cancels_and_is_told() -> None:
    import os
    import signal

    from twisted.internet.defer import CancelledError, Deferred

    reactor = Reactor()
    cancelled: list[bool] = []

    async def work(session: Session) -> None:
        try:
            await Deferred()
        except CancelledError:
            cancelled.append(True)
            raise

    class Interrupted(Reactor):
        def run(self, installSignalHandlers: bool = True) -> None:
            super().run(installSignalHandlers)
            os.kill(os.getpid(), signal.SIGINT)

        def callFromThread(self, callable: Any, *args: Any, **kwargs: Any) -> None:
            callable(*args, **kwargs)

    before = signal.getsignal(signal.SIGINT)
    reactor = Interrupted()
    with pytest.raises(Stopped) as stopped:
        run(Settings(), work, reactor)
    assert (stopped.value.number, cancelled, reactor.hasStopped) == (signal.SIGINT, [True], True)
    assert signal.getsignal(signal.SIGINT) is before

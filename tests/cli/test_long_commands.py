"""
Commands that go on, measure or audit.
"""

import json
from collections.abc import AsyncGenerator, Collection, Coroutine
from typing import Any

import click
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from dcounter.cli.auditing import audit
from dcounter.cli.benchmarking import bench
from dcounter.cli.exits import Exit
from dcounter.cli.listing import top
from dcounter.cli.progress import Bar
from dcounter.cli.statuses import status
from dcounter.cli.watching import events
from dcounter.client import Event, Refused
from dcounter.errors import NotApplied, NotSupportedHere
from dcounter.http.audit_bodies import AuditResult, AuditsShown, RunningAudit
from dcounter.testing.http import MemoryClient
from tests.support.commands import Terminal


async def interrupted(work: Coroutine[Any, Any, Any], *meanwhile: Coroutine[Any, Any, Any]) -> None:
    """
    Begin something that goes on, and end it as Ctrl-C does.
    """
    running: Deferred[Any] = Deferred.fromCoroutine(work)
    for each in meanwhile:
        await each
    running.cancel()
    with pytest.raises(CancelledError):
        await running


@pytest_twisted.ensureDeferred
async def test_audit(terminal: Terminal) -> None:
    await terminal.client.store([{"ID": 1, "tenant": "a"}])
    assert await terminal.type(audit, "--last") == "nothing was audited since the daemon started\n"
    assert terminal.exit == Exit.NO
    text = await terminal.type(audit, "a")
    assert text.startswith("equal: the nodes ")
    assert text.endswith("\n1  a\n")
    assert terminal.exit is None
    assert (await terminal.type(audit, "--last")).startswith("audited 0 s ago\nequal: ")
    [found] = await terminal.type_json(audit, "--last")
    assert found["last"]["items"] == 1
    with pytest.raises(click.UsageError, match="leave out the rest"):
        await terminal.type(audit, "--last", "a")


class Slow(MemoryClient):
    """
    A client whose audit takes long.

    :ivar asked: how often somebody looked how far it is.
    """

    asked = 0

    async def audit(self, *args: Any, **how: Any) -> AuditResult:
        await Deferred()
        raise AssertionError

    async def audits(self) -> AuditsShown:
        self.asked += 1
        return AuditsShown(running=RunningAudit("counting", 0.42, 1_000))


@pytest_twisted.ensureDeferred
async def test_an_audit_is_followed_on_a_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.client = Slow(terminal.store)
    await interrupted(terminal.type(audit))
    assert terminal.client.asked == 0
    assert terminal.remarks == ("the audit goes on without this command: 'dcounter audit --last' shows it\n")
    assert await terminal.type(audit, "--last") == ("an audit runs: counting, 42% of the rows are counted\n")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    await interrupted(terminal.type(audit))
    assert terminal.client.asked == 2
    assert "counting, 42% of the rows" in terminal.remarks


@pytest_twisted.ensureDeferred
async def test_bench(terminal: Terminal) -> None:
    await terminal.client.store([{"ID": 1, "tenant": "mine"}])
    text = await terminal.type(bench, "--seconds", "0.1", "--connections", "2", "--items", "5")
    assert "items per second" in text
    assert text.count("p99.9 ") == 2
    assert "█" in text
    [found] = await terminal.type_json(bench, "--seconds", "0.1", "--items", "1")
    assert found["count"]["requests"] == sum(each["requests"] for each in found["count"]["histogram"])
    assert terminal.store.tenants == {1: "mine"}


class Eventful(MemoryClient):
    """
    A client that is told some events.

    :ivar wanted: what was asked for.
    """

    async def events(self, *, tenants: Collection[str] = (), prefix: str = "") -> AsyncGenerator[Event, None]:
        self.wanted = ([*tenants], prefix)
        yield Event("hello", {"position": "p"})
        yield Event("count", {"tenant": "a", "counter": 1})


@pytest_twisted.ensureDeferred
async def test_events(terminal: Terminal) -> None:
    terminal.client = Eventful(terminal.store)
    assert await terminal.type(events, "a", "b") == "           1  a\n"
    assert terminal.client.wanted == (["a", "b"], "")
    assert await terminal.type_json(events, "--prefix", "a") == [
        {"event": "hello", "data": {"position": "p"}},
        {"event": "count", "data": {"tenant": "a", "counter": 1}},
    ]
    assert terminal.client.wanted == ([], "a")
    with pytest.raises(click.UsageError, match="together"):
        await terminal.type(events, "a", "--prefix", "b")


@pytest_twisted.ensureDeferred
async def test_what_is_watched_is_written_line_by_line(terminal: Terminal) -> None:
    await interrupted(terminal.type(top, "--watch", as_json=True))
    assert json.loads(terminal.output)["tenants"] == []
    await terminal.client.store([{"ID": 1, "tenant": "a"}])
    await interrupted(terminal.type(top, "--watch"))
    assert terminal.output == "1    a\n"


@pytest_twisted.ensureDeferred
async def test_what_is_watched_goes_on_when_the_daemon_has_no_time(terminal: Terminal) -> None:
    terminal.store.refusal = NotApplied("busy", retry_after=1)
    await interrupted(terminal.type(top, "--watch"))
    assert terminal.output == "Temporarily unavailable: busy; trying again\n"
    await interrupted(terminal.type(top, "--watch", as_json=True))
    assert json.loads(terminal.output)["error"]["code"] == "unavailable"
    terminal.store.refusal = NotSupportedHere("never")
    with pytest.raises(Refused):
        await terminal.type(top, "--watch")


@pytest_twisted.ensureDeferred
async def test_what_is_watched_on_a_terminal_is_drawn(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("TERM", "xterm")
    await terminal.client.store(
        [{"ID": 1, "tenant": "a" * 90}, {"ID": 2, "tenant": "a" * 90}, {"ID": 3, "tenant": "b"}]
    )
    text = await terminal.type(top)
    assert text.splitlines()[0].endswith(f"{'a' * 59}…")
    assert text.count("█") == 16 + 8
    await interrupted(terminal.type(top, "--watch"))
    assert "█" in terminal.output
    assert "a…" in terminal.output


@pytest_twisted.ensureDeferred
async def test_status_goes_on(terminal: Terminal) -> None:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    async def looks() -> None:
        while "exact" not in terminal.peek():
            await deferLater(reactor, 0.02)

    await interrupted(terminal.type(status, "--watch", as_json=True), looks())
    assert json.loads(terminal.output.splitlines()[0])["exact"] is True


def test_a_bar_is_shown_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def show() -> str:
        with Bar(100, enabled=True) as bar:
            bar.advance(50, 1_234, 2)
            bar.trouble("the daemon is busy")
            bar.advance(20, 1_300, 2)
        return click.unstyle(capsys.readouterr().err)

    assert show() == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    text = show()
    assert "1,300 stored" in text
    assert "50%" in text
    assert "2 refused" in text

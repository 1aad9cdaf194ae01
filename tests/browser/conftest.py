"""
Chromium, and daemons for the pages that it opens.

Tests are coroutines that call Playwright synchronously. While one awaits something, pages go on, since the
browser is a process of its own; while it waits for a page, the reactor stands still.
"""

import os
import shutil
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import pytest_twisted
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from twisted.internet.defer import Deferred

from tests.e2e.conftest import CALM
from tests.e2e.harness import DEADLINE, Client, Daemon

CHROMIUM = os.environ.get("CHROMIUM", "chromium")
"""
The browser: a program that Debian, or somebody else, has packaged.
"""

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

_T = TypeVar("_T")

expect.set_options(timeout=DEADLINE * 1000)


def run(coroutine: Coroutine[Deferred[Any], Any, _T]) -> _T:
    """
    Let the reactor turn until a coroutine ends.
    """
    done: Any = Deferred.fromCoroutine(coroutine)
    result: _T = pytest_twisted.blockon(done)
    return result


# Without slots: Playwright keeps something with the object whose methods it calls.
@dataclass
class Seen:
    """
    What a page did that none of ours may do.

    :ivar errors: what it wrote to the console as an error or a warning, and what its scripts raised.
    :ivar foreign: addresses of other servers that it asked for something.
    :ivar expected: parts of errors that the test provokes.
    """

    origin: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:")):
            self.foreign.append(request.url)

    def check(self) -> None:
        """
        Fail the test if the page did any of this.
        """
        assert self.foreign == []
        assert [each for each in self.errors if not any(part in each for part in self.expected)] == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which(CHROMIUM)
    assert program is not None, f"there is no {CHROMIUM} here: make test-browser installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser, origin: str, **options: Any) -> Iterator[tuple[Page, Seen]]:
    """
    A page in a browser without a past, which must not complain, nor ask other servers for anything.

    :param options: of Playwright's `new_context`.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(DEADLINE * 1000)
    page, seen = context.new_page(), Seen(origin)
    seen.watch(page)
    try:
        yield page, seen
    finally:
        context.close()
    seen.check()


def origin_of(daemon: Daemon) -> str:
    """
    How the addresses of a daemon's pages begin.
    """
    return f"http://127.0.0.1:{daemon.ports.http}"


@contextmanager
def dashboard(
    browser: Browser, daemon: Daemon, fragment: str = "", **options: Any
) -> Iterator[tuple[Page, Seen]]:
    """
    The dashboard of a daemon, once it shows figures.
    """
    with tab(browser, origin_of(daemon), **options) as (page, seen):
        page.goto(f"{origin_of(daemon)}/{fragment}")
        expect(page.locator("#connection-text")).to_have_text("Live")
        yield page, seen


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """
    One daemon for all tests that leave it as they found it, but for items of their own.
    """
    shared = run(Daemon.start(tmp_path_factory.mktemp("daemon"), CALM))
    yield shared
    run(shared.stop())


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """
    A caller of that daemon.
    """
    caller = daemon.client()
    yield caller
    run(caller.close())

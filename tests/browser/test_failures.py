"""
What the dashboard shows while nodes, and the whole daemon, go away and come back.
"""

import os
import signal
from pathlib import Path

import pytest_twisted
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import dashboard
from tests.e2e.conftest import CALM
from tests.e2e.harness import Daemon, Ports, items

_WATCH = """
window.seen = [];
const look = () => {
  for (const node of document.querySelectorAll("#picture .node")) {
    const state = `${node.dataset.node} ${node.dataset.level} ${node.querySelector(".state").textContent}`;
    if (!seen.includes(state)) seen.push(state);
  }
};
new MutationObserver(look).observe(picture, { subtree: true, childList: true, characterData: true });
look();
"""
"""
Notes each state that a node has in the picture, however short.
"""


def _primary(page: Page) -> str | None:
    return page.locator("#picture .node.primary").get_attribute("data-node")


@pytest_twisted.ensureDeferred
async def test_what_goes_away_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    ports = Ports()
    daemon = await Daemon.start(tmp_path, CALM, "--nodes=2", ports=ports, processes=True)
    client = daemon.client()
    try:
        await client.store(items(range(30), "hello"), ack="all")
        with dashboard(browser, daemon, "#tenant=hello") as (page, seen):
            expect(page.locator("#items")).to_have_text("30")
            expect(page.locator("#verdict")).to_have_text("Counts are exact; both nodes take writes")
            primary = _primary(page)
            assert primary is not None
            page.evaluate(_WATCH)

            # The primary dies: the picture changes, and another one is the primary.
            [dead] = [each for each in await client.nodes() if each["id"] == int(primary)]
            os.kill(dead["pid"], signal.SIGKILL)
            expect(page.locator("#log")).to_contain_text(f"Node {primary} is down")
            expect(page.locator(f'#picture .node.primary:not([data-node="{primary}"])')).to_be_visible()
            expect(page.locator("#log")).to_contain_text(f"Node {primary} is up")
            expect(page.locator(f'#picture .node[data-node="{primary}"] .state')).to_have_text("up")
            assert f"{primary} bad down" in page.evaluate("seen")
            await client.until_equal(30)
            expect(page.locator("#verdict")).to_have_text("Counts are exact; both nodes take writes")
            expect(page.locator("#advice")).to_be_hidden()

            # The daemon stops: the page says so, and what it shows is marked as old.
            await client.close()
            await daemon.stop()
            seen.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "status of 503"]
            expect(page.locator("#connection-text")).to_contain_text("The daemon does not answer")
            expect(page.locator("#verdict")).to_have_text("These figures are not up to date")
            expect(page.get_by_role("button", name="Try now")).to_be_visible()
            assert page.evaluate("document.documentElement.dataset.stale") == ""

            # It comes back: so does the page, by itself, and shows what is so now.
            daemon = await Daemon.start(tmp_path, CALM, "--nodes=2", ports=ports, processes=True)
            client = daemon.client()
            await client.store(items(range(30, 42), "hello"))
            expect(page.locator("#connection-text")).to_have_text("Live")
            expect(page.locator("#items")).to_have_text("42")
            expect(page.locator("#tenant-count")).to_have_text("42")
            assert page.evaluate("document.documentElement.dataset.stale") is None
            await client.store(items(range(42, 50), "hello"))
            expect(page.locator("#tenant-count")).to_have_text("50")
    finally:
        await client.close()
        if daemon.process.running:
            await daemon.stop()

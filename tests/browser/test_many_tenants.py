"""
The dashboard over very many tenants.
"""

from pathlib import Path

import pytest_twisted
from playwright.sync_api import Browser, expect

from tests.browser.conftest import dashboard
from tests.e2e.conftest import CALM
from tests.e2e.harness import Daemon, items


@pytest_twisted.ensureDeferred
async def test_a_hundred_thousand_tenants(browser: Browser, tmp_path: Path) -> None:
    # A daemon of its own: after so many changes events come late for all watchers.
    daemon = await Daemon.start(tmp_path, CALM)
    client = daemon.client()
    try:
        with dashboard(browser, daemon) as (page, seen):
            # A machine that has no time may answer so; the page asks again.
            seen.expected.append("status of 503")
            # All of them change while the page looks.
            await client.store([{"ID": each, "tenant": f"crowd/{each % 100_000}"} for each in range(100_000)])
            expect(page.locator("#tenants")).to_have_text("100,000")
            expect(page.locator("#items")).to_have_text("100,000")
            # One of them becomes the largest of all.
            await client.store(items(range(100_000, 102_000), "crowd/77777"))
            expect(page.locator("#top tr").first).to_contain_text("crowd/77777")
            expect(page.locator("#top tr").first).to_contain_text("2,001")
            expect(page.locator("#top tr")).to_have_count(15)
            page.locator("#tenant-input").fill("crowd/7777")
            expect(page.locator("#suggestions li").first).to_contain_text("crowd/77777")
            page.locator("#suggestions li").first.click()
            expect(page.locator("#tenant-count")).to_have_text("2,001")
            assert page.locator("body *").count() < 2_000
    finally:
        await client.close()
        await daemon.stop()

"""
The example for browsers in docs/http.md works in one, as it stands there.
"""

import re
from pathlib import Path

import pytest_twisted
from playwright.sync_api import Browser

from tests.browser.conftest import origin_of, tab
from tests.e2e.harness import Client, Daemon, items

_PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
_SCRIPT = re.compile(r"^```javascript\n(?P<text>.+?)^```$", re.MULTILINE | re.DOTALL)
_SHOW = "var shown = {}, show = (tenant, counter) => { shown[tenant] = counter; };"


@pytest_twisted.ensureDeferred
async def test_the_example_shows_counts_as_they_change(
    browser: Browser, daemon: Daemon, client: Client
) -> None:
    origin = origin_of(daemon)
    [example] = _SCRIPT.findall(_PAGE)
    await client.store(items([1, 2], "hello"))
    with tab(browser, origin) as (page, seen):
        # Only pages in HTML can name an icon.
        seen.expected.append("/favicon.ico")
        # A page of the daemon, on which any script may run.
        page.goto(f"{origin}/healthz")
        page.add_script_tag(
            content="var shown = {}, show = (tenant, counter) => { shown[tenant] = counter; };"
        )
        page.add_script_tag(content=example.replace("http://127.0.0.1:8085", origin))
        # Asked for, once the events have begun.
        page.wait_for_function("shown.hello === 2")
        await client.store(items([3], "hello"))
        await client.store(items([4], "other"))
        page.wait_for_function("shown.hello === 3")
        (await client.ask("DELETE", "/tenants/hello")).ok()
        page.wait_for_function("shown.hello === 0")
        # Of nobody else.
        assert page.evaluate("shown") == {"hello": 0}

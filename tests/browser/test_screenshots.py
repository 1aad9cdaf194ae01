"""
Pictures of the dashboard at work. `make screenshots` takes its time for them, and keeps them in docs/images.
"""

import itertools
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from playwright.sync_api import Browser, expect

from tests.browser.conftest import PHONE, dashboard, run
from tests.e2e.conftest import CALM
from tests.e2e.harness import Client, Daemon, pause

FOLDER = os.environ.get("DCOUNTER_SCREENSHOTS")
"""
Where the pictures are kept; unset: nowhere.
"""

SECONDS = 120 if FOLDER else 2
"""
For how long items are stored before the pictures are taken.
"""

_TENANTS = {
    "acme/berlin": 30,
    "acme/paris": 26,
    "globex": 22,
    "initech": 19,
    "umbrella": 17,
    "hooli": 14,
    "stark-industries": 12,
    "wayne-enterprises": 10,
    "wonka": 8,
    "tyrell": 6,
    "cyberdyne": 5,
    "soylent": 4,
    "vandelay": 3,
    "dunder-mifflin": 2,
}


_ARRIVED = """
Promise.all(document.getAnimations().map((each) =>
  each.effect.getTiming().iterations === Infinity ? null : each.finished.catch(() => null)))
"""
"""
Waits until what moves to its place has arrived there.
"""


async def _work(client: Client, ids: Iterator[int], seconds: float) -> None:
    """
    Store and count, now more, now less.
    """
    draw = random.Random(7)
    names, weights = [*_TENANTS], [*_TENANTS.values()]
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        many = int(60 + 40 * math.sin(passed / 9) + draw.randrange(30))
        await client.store(
            [{"ID": next(ids), "tenant": draw.choices(names, weights)[0]} for _ in range(many)]
        )
        for name in draw.choices(names, weights, k=draw.randrange(3)):
            await client.count_now(name.replace("/", "%2F"))
        await pause(draw.random() / 12)


@pytest.fixture(scope="module")
def at_work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """
    A daemon with disks for pictures that are kept; else the one that all tests share.
    """
    if not FOLDER:
        yield request.getfixturevalue("daemon")
        return
    own = run(Daemon.start(tmp_path_factory.mktemp("daemon"), CALM, processes=True))
    yield own
    run(own.stop())


@pytest_twisted.ensureDeferred
async def test_pictures_are_taken(browser: Browser, at_work: Daemon, tmp_path: Path) -> None:
    folder = Path(FOLDER) if FOLDER else tmp_path
    folder.mkdir(exist_ok=True)
    client = at_work.client()
    ids = itertools.count(10_000_000)
    desk = {"viewport": {"width": 1280, "height": 900}}
    await _work(client, ids, SECONDS / 10)
    await client.operate("/audit", {})
    with (
        dashboard(browser, at_work, "#tenant=acme%2Fberlin", **desk) as (page, _),
        dashboard(browser, at_work, **PHONE, device_scale_factor=2) as (phone, _),
    ):
        await _work(client, ids, SECONDS)
        for each in (page, phone):
            expect(each.locator("#rates-chart canvas")).to_be_visible()
            expect(each.locator("#audit-result b")).to_have_text("Nodes 0 to 3 are equal")
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            # Playwright keeps the reactor waiting: let the page see some work again.
            await _work(client, ids, SECONDS / 20)
            page.evaluate(_ARRIVED)
            page.screenshot(path=folder / f"dashboard-{theme}.png", full_page=True)
        phone.screenshot(path=folder / "dashboard-phone.png")
    await client.close()
    assert {each.name for each in folder.glob("*.png")} == {
        f"dashboard-{each}.png" for each in ("dark", "light", "phone")
    }

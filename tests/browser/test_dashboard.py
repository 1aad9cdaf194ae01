"""
The dashboard in a real browser, over a daemon that others use at the same time.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PHONE, dashboard, origin_of, tab
from tests.e2e.conftest import CALM
from tests.e2e.harness import Client, Daemon, items
from tests.e2e.test_tokens import make

_AXE = (Path(__file__).parent / "axe-4.14.1.min.js").read_text("utf-8")


def shown(page: Page, number: int) -> None:
    """
    Wait until the total is this one.
    """
    expect(page.locator("#items")).to_have_text(f"{number:,}")


async def total(client: Client) -> int:
    return int((await client.ask("GET", "/stats")).ok()["items"])


@pytest_twisted.ensureDeferred
async def test_what_is_stored_is_shown_at_once(browser: Browser, daemon: Daemon, client: Client) -> None:
    ids = daemon.new_ids(100)
    await client.store(items(ids[:10], "live/one"))
    with dashboard(browser, daemon, "#tenant=live%2Fone") as (page, _):
        shown(page, await total(client))
        expect(page.locator("#verdict")).to_have_text("Counts are exact; all 4 nodes take writes")
        expect(page.locator("#tenant-count")).to_have_text("10")
        expect(page.locator("#ids")).to_contain_text(str(ids[9]))
        await client.store(items(ids[10:30], "live/one"))
        await client.store(items(ids[30:], "live/two"))
        shown(page, await total(client))
        expect(page.locator("#tenant-count")).to_have_text("30")
        rows = page.locator("#top tr")
        expect(rows.filter(has_text="live/two").locator("td").last).to_have_text("70")
        # The chart has begun, and its table says the same.
        expect(page.locator("#tenant-chart canvas")).to_be_visible()
        page.locator("#tenant .figures summary").click()
        expect(page.locator("#tenant .figures tbody td").first).to_have_text("30")
        # Bars change places.
        first = rows.first.inner_text()
        assert "live/two" in first
        await client.store(items(ids[30:90], "live/one"))
        expect(rows.first).to_contain_text("live/one")
        expect(rows.first.locator("td").last).to_have_text("90")


@pytest_twisted.ensureDeferred
async def test_refusals_are_told_of(browser: Browser, daemon: Daemon, client: Client) -> None:
    with dashboard(browser, daemon) as (page, _):
        # The first figures are those before.
        expect(page.locator("#writes")).not_to_have_text("\u2013")
        assert (await client.post([{"ID": "1", "tenant": "hello"}])).status == 422
        advice = page.locator("#advice li", has_text="invalid_item")
        expect(advice).to_contain_text("1 request was refused as invalid_item")
        expect(advice).to_contain_text("Callers send items that are not valid")


HOSTILE = {
    "markup": "<img src=x onerror=\"document.title='!'\"><script>alert(1)</script>",
    "attribute": '" autofocus onfocus="alert(1)" x=\'',
    "emoji": "👩‍👧‍👦 🏳️‍🌈 🇳🇱",
    "right to left": "שלום עולם (1)",
    "turned": "invoice\u202efdp.exe",
    "256 bytes": "ü" * 128,
    "control": "a\nb\tc\x00d\x1b[31m",
    "path": "a/b?c=d#e%2F&f+g h",
    "dots": "..",
    "prototype": "__proto__",
    "template": "${7*7}{{7*7}}",
}


class TestNames:
    @pytest.fixture(scope="class")
    @classmethod
    def page(cls, browser: Browser, daemon: Daemon) -> Iterator[Page]:
        with dashboard(browser, daemon) as (page, _):
            yield page

    @pytest.mark.parametrize("name", list(HOSTILE.values()), ids=list(HOSTILE))
    @pytest_twisted.ensureDeferred
    async def test_is_only_a_name(self, page: Page, daemon: Daemon, client: Client, name: str) -> None:
        # Large enough to be among the bars, whatever others store.
        ids = daemon.new_ids(300)
        await client.store(items(ids, name))
        page.evaluate("(hash) => { location.hash = hash; }", f"tenant={quote(name, safe='')}")
        expect(page.locator("#tenant-count")).to_have_text("300")
        visible = re.sub(r"[\x00-\x1f\u202e]", lambda found: f"\\u{{{ord(found[0]):x}}}", name)
        assert page.locator("#tenant-name").text_content() == visible
        if name == "..":
            expect(page.locator("#ids-note")).to_contain_text("A browser cannot ask")
        else:
            expect(page.locator("#ids")).to_contain_text(str(ids[0]))
        bar = page.locator("#top").get_by_role("button", name=visible, exact=True)
        expect(bar).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("main img, main script").count() == 0
        assert page.title().endswith("items · dcounter")
        await client.ask("DELETE", f"/items/{ids[0]}")
        expect(page.locator("#tenant-count")).to_have_text("299")
        if name != "..":
            await client.ask("DELETE", f"/tenants/{quote(name, safe='')}")
            expect(page.locator("#tenant-count")).to_have_text("0")
            expect(bar).to_have_count(0)


@pytest_twisted.ensureDeferred
async def test_the_keyboard_is_enough(browser: Browser, daemon: Daemon, client: Client) -> None:
    ids = daemon.new_ids(2_000)
    await client.store(items(ids[:900], "keys/small"))
    await client.store(items(ids[900:], "keys/large"))
    with dashboard(browser, daemon) as (page, _):
        expect(page.locator("#top")).to_contain_text("keys/large")
        # Everything that can be used is reached.
        reached = set()
        for _turn in range(60):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
            )
        assert reached >= {
            *("Skip to the figures", "dcounter", "API", "theme", "token", "audit-run", "tenant-input"),
            *("As a table", "Nodes as a table", "keys/large", "keys/small", "uPlot 1.6.32"),
        }
        # A search: suggestions, the largest first.
        page.locator("#tenant-input").focus()
        page.keyboard.type("keys/")
        expect(page.locator("#suggestions li")).to_have_text(["keys/large1,100", "keys/small900"])
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        expect(page.locator('#suggestions [aria-selected="true"]')).to_contain_text("keys/small")
        page.keyboard.press("Enter")
        expect(page.locator("#tenant-count")).to_have_text("900")
        assert page.evaluate("location.hash") == "#tenant=keys%2Fsmall"
        # More IDs.
        expect(page.locator("#ids span")).to_have_count(200)
        page.locator("#ids-more").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#ids span")).to_have_count(400)
        # A bar.
        page.locator("#top").get_by_role("button", name="keys/large").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#tenant-count")).to_have_text("1,100")
        # The dialogue gives the focus back.
        page.locator("#token").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#login-token")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#login")).to_be_hidden()
        expect(page.locator("#token")).to_be_focused()
        # The theme stays chosen.
        page.locator("#theme").focus()
        for theme in ("light", "dark"):
            page.keyboard.press("Enter")
            assert page.evaluate("document.documentElement.dataset.theme") == theme
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 27)"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_it_has_no_fault_of_access(
    browser: Browser, daemon: Daemon, theme: str, options: dict[str, object]
) -> None:
    with dashboard(
        browser, daemon, "#tenant=hello", color_scheme=theme, reduced_motion="reduce", **options
    ) as (page, _):
        expect(page.locator("#picture svg")).to_be_visible()
        expect(page.locator("#audit-result b")).to_be_visible()
        for summary in page.locator("summary").all():
            summary.click()
        page.evaluate(_AXE)
        _check_access(page)
        # The same with the dialogue.
        page.locator("#token").click()
        expect(page.locator("#login-token")).to_be_focused()
        _check_access(page)


def _check_access(page: Page) -> None:
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    serious = [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    # Nothing is cut off at the side.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest_twisted.ensureDeferred
async def test_an_operator_audits(browser: Browser, daemon: Daemon) -> None:
    with dashboard(browser, daemon) as (page, seen):
        # The first attempt is refused, and so the page asks for a token.
        seen.expected.append("the server responded with a status of 403")
        page.get_by_role("button", name="Audit now").click()
        expect(page.locator("#login-why")).to_contain_text("operator-token")
        page.locator("#login-token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#login-token")).to_have_value("")
        expect(page.locator("#login")).to_be_visible()
        page.locator("#login-token").fill(daemon.token.read_text().strip())
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#audit-result b")).to_have_text("Nodes 0 to 3 are equal")
        expect(page.locator("#audit-age")).to_have_text(re.compile("ago|now"))
        expect(page.locator("#audit-run")).to_be_enabled()
        # The token is gone with the tab.
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
        page.locator("#token").click()
        page.get_by_role("button", name="Forget it").click()
        expect(page.locator("#token")).to_have_attribute("aria-label", "Token: none is set")
        assert page.evaluate("sessionStorage.length") == 0


@pytest_twisted.ensureDeferred
async def test_a_token_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    writer = make(file, "loader", "--scope=write", "--scope=read")
    bound = make(file, "acme", "--scope=read", "--prefix=acme/")
    daemon = await Daemon.start(tmp_path, CALM, "--nodes=2", f"--tokens-file={file}")
    client = daemon.client()
    try:
        stored = items(range(5), "acme/shop") + items(range(5, 9), "other")
        headers = {"Authorization": f"Bearer {writer}"}
        (await client.ask("POST", "/items", json=stored, headers=headers)).ok()
        with tab(browser, origin_of(daemon)) as (page, seen):
            seen.expected += ["the server responded with a status of 401"]
            page.goto(f"{origin_of(daemon)}/#tenant=other")
            # Nothing is shown, and the page asks.
            expect(page.locator("#login")).to_be_visible()
            expect(page.locator("#items")).to_have_text("\u2013")
            page.locator("#login-token").fill("dct_wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#login-why")).to_contain_text("no token that this daemon accepts")
            page.locator("#login-token").fill(writer)
            page.keyboard.press("Enter")
            shown(page, 9)
            expect(page.locator("#tenant-count")).to_have_text("4")
            expect(page.locator("#cluster")).to_be_visible()
            # With a token for some tenants, only those are shown; the one that was chosen is none of them.
            seen.expected.append("/counts?")
            page.locator("#token").click()
            page.locator("#login-token").fill(bound)
            page.keyboard.press("Enter")
            shown(page, 5)
            for each in ("cluster", "audit", "tiles", "rates", "latency"):
                expect(page.locator(f"#{each}")).to_be_hidden()
            expect(page.locator("#top tr")).to_have_count(1)
            expect(page.locator("#tenant-note")).to_contain_text("may read only tenants")
            assert bound not in page.url
    finally:
        await client.close()
        await daemon.stop()

"""
The modules of the dashboard that know no page: bytes and numbers go in, values come out.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import origin_of, tab
from tests.e2e.harness import Daemon


class Modules:
    """
    Runs JavaScript on a page that may run any.
    """

    def __init__(self, page: Page) -> None:
        self._page = page

    def run(self, module: str, body: str, *arguments: Any) -> Any:
        """
        What a body of a function returns: `m` is the module, `args` are the arguments.
        """
        return self._page.evaluate(
            f"async (args) => {{ const m = await import('/dashboard/{module}.js'); {body} }}", arguments
        )


@pytest.fixture(scope="module")
def js(browser: Browser, daemon: Daemon) -> Iterator[Modules]:
    with tab(browser, origin_of(daemon), timezone_id="UTC") as (page, seen):
        seen.expected.append("/favicon.ico")
        page.goto(f"{origin_of(daemon)}/healthz")
        yield Modules(page)


EVENTS = (
    "retry: 2000\nevent: hello\ndata: {}\nid: a-1\n\n: nothing new\n\n"
    'event: count\ndata: {"tenant":"x: y"}\n\ndata:two\ndata: lines\nid:a-2\n\nevent: none\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_come_in_pieces_of_any_size(js: Modules, size: int) -> None:
    found = js.run(
        "sse",
        """const parser = new m.EventParser();
        const [text, size] = args;
        const events = [];
        for (let at = 0; at < text.length; at += size) events.push(...parser.feed(text.slice(at, at + size)));
        return [events.map(({ name, data }) => [name, data]), parser.lastId];""",
        EVENTS,
        size,
    )
    assert found == [[["hello", "{}"], ["count", '{"tenant":"x: y"}'], ["message", "two\nlines"]], "a-2"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            '{"IDs":[9223372036854775807,-9223372036854775808,7]}',
            {"IDs": ["9223372036854775807", "-9223372036854775808", 7]},
        ),
        ('{"counter":9007199254740991}', {"counter": "9007199254740991"}),
        (
            '{"a":"x 9223372036854775807 \\\\","b":1.2345678901234567890}',
            {"a": "x 9223372036854775807 \\", "b": 1.2345678901234568},
        ),
        ('["\\"9223372036854775807"]', ['"9223372036854775807']),
    ],
)
def test_ids_of_64_bits_are_not_rounded(js: Modules, text: str, value: Any) -> None:
    assert js.run("json", "return m.parse(args[0]);", text) == value


METRICS = r"""
# HELP dcounter_http_requests_total Requests.
# TYPE dcounter_http_requests_total counter
dcounter_http_requests_total{method="GET",route="/items/{tenant}/count",code="200"} 5 1700000000000
dcounter_http_requests_total{method="POST",route="/items",code="200",} 2.0
odd{label="a\"b\\c\nd}"} +Inf
plain 1e3
seconds_bucket{le="0.1"} 0
seconds_bucket{le="0.2"} 50
seconds_bucket{le="0.4"} 100
seconds_bucket{le="+Inf"} 100
"""


def test_the_text_format_is_read(js: Modules) -> None:
    found = js.run(
        "prometheus",
        """const told = (samples) => samples.map(({ labels, value }) => [labels, String(value)]);
        return [...m.parseMetrics(args[0])].map(([name, samples]) => [name, told(samples)]);""",
        METRICS,
    )
    assert found[0][1] == [
        [{"method": "GET", "route": "/items/{tenant}/count", "code": "200"}, "5"],
        [{"method": "POST", "route": "/items", "code": "200"}, "2"],
    ]
    assert dict(found)["odd"] == [[{"label": 'a"b\\c\nd}'}, "Infinity"]]
    assert dict(found)["plain"] == [[{}, "1000"]]


@pytest.mark.parametrize(("share", "value"), [(0.5, 0.2), (0.25, 0.15), (0.99, 0.396), (1, 0.4)])
def test_quantiles_are_taken_from_buckets(js: Modules, share: float, value: float) -> None:
    body = "return m.quantile(args[1], m.histogram(m.parseMetrics(args[0]), 'seconds'));"
    assert js.run("prometheus", body, METRICS, share) == pytest.approx(value)


def test_quantiles_of_nothing_are_not_known(js: Modules) -> None:
    body = """const found = m.histogram(m.parseMetrics(args[0]), 'seconds');
    const beyond = new Map([[1, 0], [Infinity, 9]]);
    return [m.quantile(0.5, found, found), m.quantile(0.5, new Map()), m.quantile(0.5, beyond)];"""
    assert js.run("prometheus", body, METRICS) == [None, None, 1]


def _metrics(writes: int, reads: int, *, fast: int = 0, slow: int = 0) -> str:
    name = "dcounter_http_request_duration_seconds_bucket"
    labels = 'method="POST",route="/items"'
    return (
        f'dcounter_http_requests_total{{{labels},code="200"}} {writes}\n'
        f'dcounter_http_requests_total{{method="GET",route="/items/{{tenant}}/count",code="200"}} {reads}\n'
        # What pages like this one ask.
        'dcounter_http_requests_total{method="GET",route="/stats",code="200"} 999\n'
        f"dcounter_items_stored_total {10 * writes}\n"
        f'dcounter_refusals_total{{code="invalid_item"}} {writes // 10}\n'
        f'{name}{{{labels},le="0.001"}} {fast}\n{name}{{{labels},le="1"}} {fast + slow}\n'
        f'{name}{{{labels},le="+Inf"}} {fast + slow}\n'
    )


def test_rates_are_those_between_two_answers(js: Modules) -> None:
    states = [
        [100.0, _metrics(10, 100)],
        [102.0, _metrics(30, 100, fast=20)],
        [104.0, _metrics(30, 110, fast=20, slow=20)],
        # Started anew.
        [106.0, _metrics(2, 0)],
        [108.0, _metrics(4, 0)],
    ]
    points, refused = js.run(
        "rates",
        """const { parseMetrics } = await import('/dashboard/prometheus.js');
        const rates = new m.Rates();
        for (const [at, text] of args[0]) rates.add(at, parseMetrics(text));
        return [rates.points, [...rates.refused]];""",
        states,
    )
    assert [(each["at"], each["writes"], each["reads"], each["items"]) for each in points] == [
        (102, 10, 0, 100),
        (104, 0, 5, 0),
        (106, None, None, None),
        (108, 1, 0, 10),
    ]
    assert points[0]["p50"] == pytest.approx(0.0005)
    # Over ten seconds: half of them were fast.
    assert (points[1]["p50"], points[1]["p99"]) == (pytest.approx(0.001), pytest.approx(0.98, abs=0.01))
    assert points[3]["p50"] is None
    assert refused == [["invalid_item", 2]]


TOP = """const top = new m.Top({ shown: 3, known: 5 });
const names = () => top.list().map(({ tenant, counter }) => `${tenant}:${counter}`).join(' ');
const page = (...counts) => counts.map((counter, index) => ({ tenant: 'abcdefgh'[index], counter }));
"""


@pytest.mark.parametrize(
    ("body", "shown", "stale"),
    [
        ("top.load(page(9, 7, 5), false);", "a:9 b:7 c:5", False),
        # The order of names decides between equals, as the daemon has it.
        ("top.load([{tenant: 'z', counter: 1}, {tenant: 'y', counter: 1}], false);", "y:1 z:1", False),
        ("top.load(page(9, 7, 5), false); top.apply('new', 8);", "a:9 new:8 b:7", False),
        ("top.load(page(9, 7, 5), false); top.apply('a', 0); top.apply('a', 0);", "b:7 c:5", False),
        # Of others it is only known that they own at most 5.
        ("top.load(page(9, 8, 7, 6, 5), true); top.apply('x', 5); top.apply('c', 5);", "a:9 b:8 d:6", False),
        (
            "top.load(page(9, 8, 7, 6, 5), true); for (const each of 'abc') top.apply(each, 1);",
            "d:6 e:5",
            True,
        ),
        (
            "top.load([], false); for (let i = 1; i <= 1000; i++) top.apply(`t${i}`, i);",
            "t1000:1000 t999:999 t998:998",
            False,
        ),
    ],
)
def test_the_largest_tenants_are_kept_right_by_events(
    js: Modules, body: str, shown: str, stale: bool
) -> None:
    assert js.run("top", f"{TOP} {body} return [names(), top.stale];") == [shown, stale]


def test_a_history_is_bounded(js: Modules) -> None:
    found = js.run(
        "history",
        """const history = new m.History({ tenants: 2, seconds: 10 });
        history.add('first', 1, 1);
        for (let at = 0; at < 100; at++) history.add('second', at, at);
        history.add('second', 99.5, 200);
        history.add('third', 99, 1);
        return ['first', 'second', 'third'].map((tenant) => history.of(tenant, 100));""",
    )
    assert found[0] == [[], []]
    times, counts = found[1]
    assert (times[0], times[-1], counts[-1]) == (90, 100, 200)
    assert len(times) == 12
    assert found[2] == [[99, 100], [1, 1]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("integer(1234567)", "1,234,567"),
        ("integer(null)", "\u2013"),
        ("rate(0)", "0"),
        ("rate(2.345)", "2.3"),
        ("rate(1234.5)", "1,235"),
        ("duration(0.000042)", "42 µs"),
        ("duration(0.00234)", "2.3 ms"),
        ("duration(0.234)", "234 ms"),
        ("duration(2.34)", "2.3 s"),
        ("duration(90)", "2 min"),
        ("age(1)", "just now"),
        ("age(59)", "59 seconds ago"),
        ("age(7200)", "2 hours ago"),
        ("age(864000)", "10 days ago"),
        ("nodes([1])", "node 1"),
        ("nodes([0, 2])", "nodes 0 and 2"),
        ("nodes([0, 1])", "nodes 0 and 1"),
        ("nodes([0, 1, 2, 3])", "nodes 0 to 3"),
        ("nodes([0, 1, 3])", "nodes 0, 1 and 3"),
        ("visible('a\\u202eb\\n')", "a\\u{202e}b\\u{a}"),
        ("visible('👩\\u200d👧 a\\u200db')", "👩\u200d👧 a\\u{200d}b"),
        ("visible('שלום')", "שלום"),
        ("tenantIn('#tenant=acme%2Fberlin')", "acme/berlin"),
        ("tenantIn('#tenant=50%')", "50%"),
        ("tenantIn('#tenant=')", None),
    ],
)
def test_numbers_and_names_are_shown_so(js: Modules, call: str, text: str | None) -> None:
    assert js.run("format", f"return m.{call};") == text


NODE = {"id": 1, "state": "up", "refuses": None, "in_doubt": False, "loading": False}
WELL = {
    "cluster": {"primary": 0, "nodes": [{**NODE, "id": 0}, NODE], "lost": [], "warnings": []},
    "ready": {"exact": True, "missing": [], "warnings": []},
    "audit": None,
}


def _with(**changes: Any) -> Any:
    known = json.loads(json.dumps(WELL))
    node = changes.pop("node", {})
    known["cluster"]["nodes"][1].update(node)
    known["cluster"].update(changes.pop("cluster", {}))
    return {**known, **changes}


@pytest.mark.parametrize(
    ("known", "level", "words"),
    [
        (_with(node={"state": "down"}), "warn", "Node 1 is down."),
        (_with(node={"state": "new"}), "bad", "Node 1 has not been heard of since the daemon started."),
        (
            _with(node={"refuses": "the disk failed: [Errno 28] No space left on device"}),
            "bad",
            "Make room on its disk",
        ),
        (_with(node={"refuses": "something else"}), "warn", "Its part of the writes goes to other nodes."),
        (_with(node={"loading": True}), "note", "Node 1 loads its ledger."),
        (_with(node={"in_doubt": True}), "bad", "Repair the disk."),
        (_with(cluster={"primary": None}), "bad", "No node is up: nothing can be counted."),
        (
            _with(cluster={"lost": [{"node": 1, "run": "5", "last": 7}]}),
            "bad",
            "Items are lost that only node 1 had",
        ),
        (_with(cluster={"warnings": ["the clock jumped"]}), "warn", "The clock jumped."),
        (
            _with(ready={"exact": False, "missing": [1], "warnings": []}),
            "bad",
            "items of node 1 may be missing",
        ),
        (
            _with(audit={"failure": "a node was lost"}),
            "warn",
            "The last audit was not finished: a node was lost.",
        ),
        (
            _with(
                audit={
                    "last": {
                        "nodes": [0, 1],
                        "differences": {
                            "wrong_nodes": [1],
                            "undecided": False,
                            "all_items": 2,
                            "all_counts": 1,
                        },
                    }
                }
            ),
            "bad",
            "found differences in 2 items and 1 counts. Node 1: wrong.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(js: Modules, known: Any, level: str, words: str) -> None:
    found = js.run("advice", "return m.advice(args[0]);", known)
    assert [each["level"] for each in found if words in each["what"] + each["todo"]] == [level]
    assert all(each["what"].endswith(".") for each in found)


def test_a_disk_that_is_almost_full_is_told_of(js: Modules) -> None:
    metrics = """
dcounter_node_journal_bytes{node="1"} 2097152
dcounter_replication_lag_seconds{node="1",origin="0"} 0.5
dcounter_replication_lag_seconds{node="1",origin="2"} 0.25
dcounter_disk_free_bytes{process="node-1"} 1073741824
dcounter_disk_size_bytes{process="node-1"} 21474836480
dcounter_disk_size_bytes{process="coordinator"} 1
"""
    body = """const { parseMetrics } = await import('/dashboard/prometheus.js');
    const { nodeFacts } = await import('/dashboard/node_facts.js');
    const facts = nodeFacts(parseMetrics(args[1]));
    return [[...facts], m.advice({ ...args[0], facts })];"""
    facts, found = js.run("advice", body, WELL, metrics)
    assert facts == [[1, {"journal": 2**21, "free": 2**30, "size": 20 * 2**30, "lag_s": 0.5}]]
    assert [each["what"] for each in found] == ["The disk of node 1 has only 1 GiB of 20 GiB left."]


def test_nothing_is_said_if_all_is_well(js: Modules) -> None:
    assert js.run("advice", "return [m.advice(args[0]), m.verdict(args[0])];", WELL) == [
        [],
        {"level": "good", "text": "Counts are exact; both nodes take writes"},
    ]


def test_refusals_are_counted_and_explained(js: Modules) -> None:
    body = """const refused = new Map(Object.entries(args[1]));
    return m.advice({ ...args[0], refused, since: new Map([['overloaded', 90]]) });"""
    ours, theirs = js.run("advice", body, WELL, {"invalid_item": 1, "overloaded": 1200})
    assert ours["what"] == "1,200 requests were refused as overloaded; the last one 90 seconds ago."
    assert theirs["what"] == "1 request was refused as invalid_item; the last one just now."
    assert [ours["level"], theirs["level"]] == ["warn", "note"]


def test_a_function_is_called_seldom_and_once_more_at_the_end(js: Modules) -> None:
    found = js.run(
        "dom",
        """let calls = 0;
        const call = m.seldom(50, () => calls++);
        for (let i = 0; i < 9; i++) call();
        const first = calls;
        while (calls < 2) await new Promise((done) => setTimeout(done, 10));
        return [first, calls];""",
    )
    assert found == [1, 2]

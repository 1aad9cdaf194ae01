"""
docs/metrics.md, the alerts, their runbooks and the dashboard name what the code has, and no other.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcounter.daemon.families import FAMILIES, page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
ALERTS = (ROOT / "etc" / "prometheus" / "alerts.yml").read_text("utf-8")
DASHBOARD: dict[str, Any] = json.loads((ROOT / "etc" / "grafana" / "dcounter.json").read_text("utf-8"))

_ALL = [each for families in FAMILIES.values() for each in families]
_PARTS = {"histogram": ("_bucket", "_sum", "_count")}
SAMPLES = {each.name + part for each in _ALL for part in _PARTS.get(each.kind, ("",))}
"""
What samples are called.
"""

_NAME = re.compile(r"\b(?:dcounter|process)_\w+")
_ALERT = re.compile(
    r"^      - alert: (\w+)\n(.*?)(?=^      - alert: |^  - name: |\Z)", re.MULTILINE | re.DOTALL
)


def test_its_tables_are_made_from_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "run: make options"
    assert all(f"| `{each.name}` | {each.kind} |" in text for each in _ALL)


def test_no_name_means_two_things() -> None:
    names = [each.name for each in _ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", _ALL, ids=lambda family: family.name)
def test_a_name_is_as_prometheus_wants_it(family: Any) -> None:
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert family.help.endswith((".", "release."))
    if "duration" in family.name or "delay" in family.name or "age" in family.name.split("_"):
        assert family.name.endswith("_seconds")


@pytest.mark.parametrize("name", ["metrics.md", "runbooks.md"])
def test_what_the_pages_name_exists(name: str) -> None:
    text = (ROOT / "docs" / name).read_text("utf-8")
    families = {each.name for each in _ALL}
    assert set(_NAME.findall(text)) <= SAMPLES | families


def _alerts() -> Iterator[Any]:
    for name, text in _ALERT.findall(ALERTS):
        yield pytest.param(name, text, id=name)


@pytest.mark.parametrize(("name", "text"), list(_alerts()))
def test_an_alert_has_all_that_the_one_it_wakes_needs(name: str, text: str) -> None:
    assert re.search(r"^          severity: (critical|warning|info)$", text, re.MULTILINE)
    assert re.search(r'^          summary: ".{20,}\."$', text, re.MULTILINE)
    assert re.search(r"^          description: >-$", text, re.MULTILINE)
    [url] = re.findall(r"^          runbook_url: (\S+)$", text, re.MULTILINE)
    assert url == f"https://docs.example/dcounter/runbooks.html#{name.lower()}"
    section = re.search(rf"^### {name}\n(.+?)(?=^##|\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert len(section[1].split()) > 20
    if name != "DcounterDown":
        used = set(_NAME.findall(text.partition("annotations:")[0]))
        assert used
        assert used <= SAMPLES


def test_each_runbook_has_an_alert() -> None:
    assert re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE) == [name for name, _ in _ALERT.findall(ALERTS)]


def _panels() -> Iterator[Any]:
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            yield pytest.param(panel, id=panel["title"])


@pytest.mark.parametrize("panel", list(_panels()))
def test_a_panel_shows_what_exists_and_says_what_it_is(panel: Any) -> None:
    for target in panel["targets"]:
        used = set(_NAME.findall(target["expr"]))
        assert used
        assert used <= SAMPLES
        assert target["expr"].count("$job") == target["expr"].count("$instance") >= 1
    assert panel["description"].endswith(".")


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_has_a_row_for_each_part() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Writes", "Reads", "Replication", "Journal", "Processes"]

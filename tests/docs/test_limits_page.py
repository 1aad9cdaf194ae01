import dataclasses
import inspect
import re
from pathlib import Path

from dcounter.limits import ITEM_BYTES, LONGEST_TENANT, Limits

DOCS = Path(__file__).parents[2] / "docs" / "limits.md"
DEFAULTS = dataclasses.asdict(Limits())
_ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<default>[0-9.]+) \((?P<unit>[^)]*)\) \| (?P<reason>.+) \|$")

ROWS = [match for line in DOCS.read_text("utf-8").splitlines() if (match := _ROW.match(line))]
UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}


def test_the_page_has_every_limit_with_its_default_and_its_reason() -> None:
    assert {row["name"]: float(row["default"]) for row in ROWS} == DEFAULTS
    assert [row["name"] for row in ROWS] == list(DEFAULTS)
    assert all(len(row["reason"]) > 10 for row in ROWS)


def test_the_page_shows_times_as_seconds_and_sizes_as_bytes() -> None:
    for row in ROWS:
        number, _, unit = row["unit"].rpartition(" ")
        if unit in UNITS:
            assert float(number) * UNITS[unit] == float(row["default"])
        else:
            assert (row["unit"] == "s") == isinstance(DEFAULTS[row["name"]], float)


def test_the_code_says_what_each_one_is_for() -> None:
    assert re.findall(r":ivar (\w+):", inspect.getdoc(Limits) or "") == list(DEFAULTS)


def test_they_fit_each_other() -> None:
    limits = Limits()
    # One lost heartbeat raises no alarm, and a slow node is noticed before a caller's request times out.
    assert 4 * limits.heartbeat_s < limits.suspicion_s < limits.idle_s
    assert limits.slow_after_s < limits.request_s
    assert limits.hedge_after_s < limits.read_wait_s
    # A slice of the largest size, in its longest form in JSON, fits a line, and so does an open batch.
    assert 6 * max(limits.slice_bytes, limits.batch_bytes) < limits.line_bytes
    assert limits.batch_bytes * limits.window_batches >= limits.window_bytes
    assert limits.window_bytes > limits.line_bytes
    # So does an item of the longest tenant that any option allows.
    assert limits.line_bytes > 6 * (LONGEST_TENANT + ITEM_BYTES)

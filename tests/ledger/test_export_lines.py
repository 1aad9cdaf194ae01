"""
Rows of a ledger as lines of JSON.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.http.items import LineReader, parse_lines
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import StepSizes, finish
from dcounter.stamps import parse_stamp, show_stamp
from tests.support.strategies import item_ids, owners, stamps

ROWS = st.lists(st.tuples(item_ids, stamps, owners), max_size=12)
LATEST = 2**63 - 1


def merged(ledger: Ledger, rows: list[tuple[int, int, str | None]]) -> Ledger:
    ledger.merge(*([row[i] for row in rows] for i in range(3)))  # type: ignore[arg-type]
    return ledger


def known(ledger: Ledger) -> dict[int, tuple[int, str | None]]:
    return {item: (stamp, tenant) for chunk in ledger.chunks(99) for item, stamp, tenant in chunk.entries()}


def read(lines: bytes) -> dict[int, tuple[int, str | None]]:
    """
    What a caller reads. An ID that comes twice is a mistake.
    """
    found: dict[int, tuple[int, str | None]] = {}
    for line in lines.splitlines():
        item: dict[str, Any] = msgspec.json.decode(line)
        assert item["ID"] not in found
        assert item.keys() - {"ID", "lastUpdateDt"} in ({"tenant"}, {"deleted"})
        assert item.get("deleted", True) is True
        found[item["ID"]] = parse_stamp(item["lastUpdateDt"]), item.get("tenant")
        assert item["lastUpdateDt"] == show_stamp(found[item["ID"]][0])
    return found


@given(ROWS)
def test_all_rows_are_there_and_can_be_stored_again(rows: list[tuple[int, int, str | None]]) -> None:
    ledger = merged(Ledger(), rows)
    found = ledger.export(0, 99, deleted=True)
    assert read(found.lines) == known(ledger)
    assert (found.rows, found.next) == (ledger.known, ledger.known)
    if not found.rows:
        return
    rules: Any = {"latest": lambda: LATEST, "max_tenant_bytes": 10**6}
    items = parse_lines(found.lines, found.rows, **rules)
    if items is None:
        # Deletions beside names with backslashes take the slow way.
        reader = LineReader(**rules)
        assert not [error for line in found.lines.splitlines() for error in reader.read(line, 1)]
        items = reader.items()
    again = Ledger()
    # Without a stamp the coordinator gives one: that must not be.
    assert items.stamps is not None
    assert None not in items.stamps
    again.merge(items.ids, [stamp or 0 for stamp in items.stamps], items.tenants)
    assert again.digest() == ledger.digest()


@given(ROWS, st.booleans(), st.sampled_from([None, "a", "b"]))
def test_only_what_is_asked_for_is_there(
    rows: list[tuple[int, int, str | None]], deleted: bool, prefix: str | None
) -> None:
    ledger = merged(Ledger(), [*rows, (1, 1, "a"), (2, 1, "ab"), (3, 1, "b"), (4, 1, None)])
    may_read = None if prefix is None else (lambda tenant: tenant.startswith(prefix))
    found = ledger.export(0, 99, deleted=deleted, may_read=may_read)

    def wanted(tenant: str | None) -> bool:
        if tenant is None:
            return deleted and prefix is None
        return prefix is None or tenant.startswith(prefix)

    assert read(found.lines) == {item: row for item, row in known(ledger).items() if wanted(row[1])}
    assert found.next == ledger.known


@given(ROWS, st.lists(ROWS, max_size=6), st.integers(1, 4))
def test_what_is_merged_meanwhile_hides_nothing(
    rows: list[tuple[int, int, str | None]], later: list[list[tuple[int, int, str | None]]], size: int
) -> None:
    ledger = merged(Ledger(sizes=StepSizes(exported=size)), rows)
    before = known(ledger)
    end, first, lines = ledger.known, 0, b""
    while first < end:
        found = ledger.export(first, end, deleted=True)
        assert first < found.next <= first + size
        lines, first = lines + found.lines, found.next
        merged(ledger, later.pop() if later else [])
    after, found_rows = known(ledger), read(lines)
    assert found_rows.keys() == before.keys()
    for item, row in found_rows.items():
        key = (row[0], row[1] or "")
        assert (before[item][0], before[item][1] or "") <= key <= (after[item][0], after[item][1] or "")


@pytest.mark.parametrize("name", ["a" * 50, "\x00" * 50, "€" * 50])
def test_lines_are_bounded(name: str) -> None:
    ledger = merged(Ledger(), [(i, 1, f"{name}{i}") for i in range(10)])
    first, lines = 0, b""
    while first < 10:
        found = ledger.export(first, 10, limit=300)
        # Of a character, up to six bytes.
        assert 0 < len(found.lines) <= 6 * 300
        assert found.rows <= 2
        lines, first = lines + found.lines, found.next
    assert read(lines) == known(ledger)
    # One is given in any case.
    assert ledger.export(0, 10, limit=1).rows == 1


def test_rows_that_are_not_there_are_none() -> None:
    ledger = merged(Ledger(), [(1, 1, "a")])
    assert ledger.export(1, 9) == (b"", 0, 1)
    assert Ledger().export(0, 9, deleted=True) == (b"", 0, 0)
    assert ledger.export(0, 1, may_read=lambda tenant: False) == (b"", 0, 1)


def test_a_compaction_is_noticed() -> None:
    ledger = merged(Ledger(), [(1, 1, None), (2, 2, "a")])
    before = ledger.numbering
    finish(ledger.compact(1))
    assert ledger.numbering != before
    assert read(ledger.export(0, 9, deleted=True).lines) == {2: (2, "a")}

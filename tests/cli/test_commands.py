"""
The commands that ask, list and delete, and what they write.
"""

import io
import json
import os
from pathlib import Path

import click
import pytest
import pytest_twisted

from dcounter.cli.copying import export
from dcounter.cli.counting import count, get
from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.listing import items, tenants, top
from dcounter.cli.removing import delete, erase
from dcounter.client import Refused
from tests.support.commands import Terminal

ITEMS = [
    *({"ID": each, "tenant": "acme/berlin"} for each in range(-1, 3)),
    {"ID": 5, "tenant": "acme/paris"},
    {"ID": 6, "tenant": "evil\x1b[2J"},
]


class Typed(io.StringIO):
    """
    What someone types at a terminal.
    """

    def isatty(self) -> bool:
        return True


async def filled(terminal: Terminal) -> Terminal:
    await terminal.client.store(ITEMS)
    return terminal


@pytest_twisted.ensureDeferred
async def test_count(terminal: Terminal) -> None:
    await filled(terminal)
    assert await terminal.type(count, "acme/berlin") == "4\n"
    assert await terminal.type(count, "acme/berlin", "none", "evil\x1b[2J") == (
        "4  acme/berlin\n0  none\n1  evil\\x1b[2J\n"
    )
    assert await terminal.type(count) == "6 items of 3 tenants\n"
    assert await terminal.type(count, "--prefix", "acme/p") == "1 item of 1 tenant\n"
    [one] = await terminal.type_json(count, "none")
    assert one["counts"] == [{"tenant": "none", "counter": 0}]
    assert terminal.exit is None
    many = [f"t{each}" for each in range(1_500)]
    assert [len(each["counts"]) for each in await terminal.type_json(count, *many)] == [1_000, 500]
    with pytest.raises(click.UsageError, match="cannot be used together"):
        await terminal.type(count, "a", "--prefix", "b")


@pytest_twisted.ensureDeferred
async def test_what_is_not_exact_is_an_error_or_a_warning(terminal: Terminal) -> None:
    await filled(terminal)
    terminal.store.missing = (2, 3)
    with pytest.raises(Refused):
        await terminal.type(count, "acme/berlin")
    for command, argument in ((count, "acme/berlin"), (get, "5"), (items, "acme/berlin")):
        assert await terminal.type(command, argument, "--consistency", "available")
        assert terminal.exit == Exit.NO
        assert "not exact: items of these nodes may be missing: 2, 3" in terminal.remarks


@pytest_twisted.ensureDeferred
async def test_get(terminal: Terminal) -> None:
    await filled(terminal)
    text = await terminal.type(get, "-1", "6", "9")
    assert [line.split()[:2] for line in text.splitlines()] == [["-1", "acme/berlin"], ["6", "evil\\x1b[2J"]]
    assert terminal.exit == Exit.NO
    assert terminal.remarks == "ID 9: no tenant owns it\n"
    [found] = await terminal.type_json(get, "-1")
    assert found["items"][0]["tenant"] == "acme/berlin"
    with pytest.raises(click.BadParameter, match="'--jsn' is not a valid integer"):
        await terminal.type(get, "--jsn")


@pytest_twisted.ensureDeferred
async def test_lists(terminal: Terminal) -> None:
    await filled(terminal)
    assert (await terminal.type(tenants)).split("\n") == [
        "           4  acme/berlin",
        "           1  acme/paris",
        "           1  evil\\x1b[2J",
        "",
    ]
    by_count = await terminal.type_json(tenants, "--by-count", "--limit", "1", "--prefix", "acme/")
    assert by_count == [{"tenant": "acme/berlin", "counter": 4}]
    assert await terminal.type(items, "acme/berlin", "--limit", "3") == "-1\n0\n1\n"
    assert await terminal.type_json(items, "acme/paris") == [{"ID": 5}]
    await terminal.client.store([{"ID": each, "tenant": "large"} for each in range(100, 2_600)])
    assert len((await terminal.type(items, "large")).splitlines()) == 2_500


@pytest_twisted.ensureDeferred
async def test_top(terminal: Terminal) -> None:
    assert await terminal.type(top) == "no tenant owns an item\n"
    await filled(terminal)
    assert await terminal.type(top, "2") == "4  acme/berlin\n1  acme/paris\n"
    [found] = await terminal.type_json(top, "1", "--prefix", "acme/p")
    assert found["tenants"] == [{"tenant": "acme/paris", "counter": 1}]


@pytest_twisted.ensureDeferred
async def test_delete(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(terminal)
    assert await terminal.type(delete, "-1", "77") == "deleted 2 IDs\n"
    assert await terminal.type(delete, "0", "77", "--receipt") == "0  deleted\n77  was not there\n"
    assert await terminal.type_json(delete, "1", "--stamp", "1999-01-01T00:00:00Z", "--receipt") == [
        {"ID": 1, "receipt": "stale"}
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("2\n 5 \n"))
    assert await terminal.type(delete, "-") == "deleted 2 IDs\n"
    assert set(terminal.store.tenants) == {1, 6}
    with pytest.raises(Failed, match="'x' is not an ID"):
        await terminal.type(delete, "x")
    assert await terminal.type(delete, *map(str, range(2_500))) == "deleted 2,500 IDs\n"


@pytest_twisted.ensureDeferred
async def test_erase_asks_first(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(terminal)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(click.UsageError, match="--yes"):
        await terminal.type(erase, "acme/berlin")
    monkeypatch.setattr("sys.stdin", Typed("n\n"))
    with pytest.raises(click.Abort):
        await terminal.type(erase, "acme/berlin")
    assert terminal.remarks == "Delete 4 items of 'acme/berlin'? [y/N]: "
    assert len(terminal.store.tenants) == 6
    monkeypatch.setattr("sys.stdin", Typed("y\n"))
    assert await terminal.type(erase, "acme/berlin") == "deleted 4 items of acme/berlin\n"


@pytest_twisted.ensureDeferred
async def test_erase(terminal: Terminal) -> None:
    await filled(terminal)
    assert await terminal.type(erase, "evil\x1b[2J", "--yes") == "deleted 1 item of evil\\x1b[2J\n"
    [erased] = await terminal.type_json(erase, "acme/berlin", "--yes")
    assert (erased["deleted"], erased["tenant"]) == (4, "acme/berlin")
    assert terminal.store.tenants == {5: "acme/paris"}


@pytest_twisted.ensureDeferred
async def test_export(terminal: Terminal, tmp_path: Path) -> None:
    await filled(terminal)
    path = tmp_path / "dump"
    assert await terminal.type(export, "--output", str(path)) == ""
    assert terminal.remarks == f"wrote {path}\n"
    first, *found, last = map(json.loads, path.read_text().splitlines())
    assert (first["items"], last) == (6, {"end": True, "rows": 6})
    assert {each["ID"]: each["tenant"] for each in found} == terminal.store.tenants
    assert (await terminal.type(export)).splitlines()[1:] == path.read_text().splitlines()[1:]
    assert os.listdir(tmp_path) == ["dump"]
    with pytest.raises(Failed, match=r"/none/dump cannot be written: No such file"):
        await terminal.type(export, "--output", "/none/dump")

"""
Backups are written, proved and restored, or it is said why not.
"""

import json
import os
import random
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import pytest
import pytest_twisted

from dcounter import zstd
from dcounter.backups.form import Head
from dcounter.backups.reading import Reading
from dcounter.backups.writing import Writer
from dcounter.cli.backups import backup, restore
from dcounter.cli.bookmark import Bookmark
from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.main import run
from dcounter.cli.persisting import GaveUp
from dcounter.cli.replacing import replaced
from dcounter.client import ExportCutShort, Exported, Refused, Unreachable
from dcounter.errors import NotApplied
from dcounter.testing.http import MemoryClient, MemoryStore
from tests.support.commands import NOW, Terminal

Json = Any


async def fill(terminal: Terminal, seed: int = 1, number: int = 300) -> None:
    """
    Store, move and delete items.
    """
    decide = random.Random(seed)
    names = ["a", "b\x00\x1b[2J", "\u202e", "acme/berlin", "\U0001f600" * 60]
    for _ in range(3):
        ids = [decide.choice([decide.randrange(50), decide.getrandbits(63), -each]) for each in range(number)]
        items = [
            {"ID": each, "deleted": True}
            if decide.random() < 0.2
            else {"ID": each, "tenant": decide.choice(names)}
            for each in dict.fromkeys(ids)
        ]
        await terminal.client.store(items, stamp=decide.randrange(NOW))


def verified(capsys: pytest.CaptureFixture[str], path: Path) -> Json:
    assert run(["--json", "backup", "verify", str(path)]) == 0
    return json.loads(capsys.readouterr().out)


def emptied(terminal: Terminal) -> None:
    """
    Let the commands call another cluster, which is empty.
    """
    terminal.store = MemoryStore()
    terminal.client = MemoryClient(terminal.store, terminal.operator)


@pytest.mark.parametrize("seed", range(6))
@pytest_twisted.ensureDeferred
async def test_any_state_is_restored_as_it_was(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    await fill(terminal, seed, number=seed * 60)
    path = tmp_path / "b"
    [wrote] = await terminal.type_json(backup, str(path), *(["--uncompressed"] if seed % 2 else []))
    tenants = terminal.store.tenants
    before = await terminal.store.audit()
    assert (wrote["items"], wrote["tombstones"], wrote["digest"]) == (
        before.items,
        before.tombstones,
        before.digest,
    )
    assert (wrote["file"], wrote["bytes"], wrote["cluster"]) == (str(path), path.stat().st_size, "memory")
    assert os.listdir(tmp_path) == ["b"]
    assert path.stat().st_mode & 0o777 == 0o600
    found = verified(capsys, path)
    assert {each["tenant"]: each["counter"] for each in found["counts"]} == {
        name: [*tenants.values()].count(name) for name in tenants.values()
    }
    assert (found["position"], found["digest"], found["backup"]) == (wrote["position"], wrote["digest"], True)
    emptied(terminal)
    [restored] = await terminal.type_json(restore, str(path))
    assert (restored["equal"], restored["items"], restored["sent"]) == (
        True,
        before.items,
        before.items + before.tombstones,
    )
    assert terminal.exit is None
    assert terminal.store.tenants == tenants
    assert (await terminal.store.audit()).digest == before.digest
    assert os.listdir(tmp_path) == ["b"]


class CutShort:
    """
    An export whose last part does not come.
    """

    def __init__(self, exported: Exported) -> None:
        self._exported = exported
        self.header = exported.header
        self.close = exported.close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._exported:
            yield part[: len(part) // 2].rpartition(b"\n")[0] + b"\n"
            break
        raise ExportCutShort("it ended")


class TestBackup:
    @pytest_twisted.ensureDeferred
    async def test_it_says_what_it_wrote(self, terminal: Terminal, tmp_path: Path) -> None:
        stored = await terminal.client.store([{"ID": 1, "tenant": "a"}, {"ID": 2, "deleted": True}])
        path = tmp_path / "b"
        text = await terminal.type(backup, str(path), "--after", stored.position)
        assert text.startswith(f"wrote {path}: 1 item of 1 tenant and 1 deleted ID; 0.0 MiB in ")
        assert "it includes everything up to the position " in text

    @pytest_twisted.ensureDeferred
    async def test_an_older_one_is_replaced_only_by_a_whole_one(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        await fill(terminal)
        path = tmp_path / "b"
        await terminal.type(backup, str(path))
        before = path.read_bytes()
        terminal.store.refusal = NotApplied("it is too old", retry_after=1)
        with pytest.raises(GaveUp):
            await terminal.type(backup, str(path), "--patience", "0")
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["b"]
        terminal.store.refusal = None
        await terminal.type(backup, str(path), "--uncompressed")
        assert path.read_bytes().startswith(b'{"export":1,')

    @pytest.mark.parametrize("broken", [1, 2, 3])
    @pytest_twisted.ensureDeferred
    async def test_what_breaks_off_is_begun_anew(
        self, terminal: Terminal, tmp_path: Path, broken: int
    ) -> None:
        await fill(terminal)
        whole = terminal.client.export
        attempts: list[int] = []

        async def export(**how: Any) -> Any:
            exported = await whole(**how)
            attempts.append(1)
            return CutShort(exported) if len(attempts) <= broken else exported

        terminal.client.export = export  # type: ignore[method-assign]
        path = tmp_path / "b"
        if broken < 3:
            await terminal.type(backup, str(path))
            assert len(attempts) == broken + 1
            reading = Reading(BytesIO(path.read_bytes()))
            audited = await terminal.store.audit()
            assert sum(each.rows for each in reading) == audited.items + audited.tombstones
        else:
            with pytest.raises(Failed, match="could not complete the export, 3 times: it ended") as failed:
                await terminal.type(backup, str(path))
            assert failed.value.exit == Exit.UNAVAILABLE
            assert os.listdir(tmp_path) == []
        remark = "it is begun anew, since this attempt failed: it ended"
        assert terminal.remarks.count(remark) == min(broken, 2)

    @pytest_twisted.ensureDeferred
    async def test_what_is_not_exact_is_no_backup(self, terminal: Terminal, tmp_path: Path) -> None:
        terminal.store.missing = (2,)
        with pytest.raises(Failed, match="what is stored is not known exactly now: the items of") as failed:
            await terminal.type(backup, str(tmp_path / "b"), "--patience", "0")
        assert (failed.value.code, failed.value.exit) == ("incomplete", Exit.UNAVAILABLE)
        assert os.listdir(tmp_path) == []

    @pytest_twisted.ensureDeferred
    async def test_files_that_cannot_be_written(self, terminal: Terminal, tmp_path: Path) -> None:
        with pytest.raises(Failed, match="/none/b cannot be written: No such file"):
            await terminal.type(backup, str(tmp_path / "none" / "b"))
        (tmp_path / "b").mkdir()
        with pytest.raises(click.BadParameter, match="is a directory"):
            await terminal.type(backup, str(tmp_path / "b"))
        with (
            replaced(str(tmp_path / "c")),
            pytest.raises(Failed, match=r"another process is writing .*c\.part"),
        ):
            await terminal.type(backup, str(tmp_path / "c"))
        assert sorted(os.listdir(tmp_path)) == ["b", "c"]

    @pytest_twisted.ensureDeferred
    async def test_what_a_killed_process_has_left_is_not_in_it(
        self, terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await fill(terminal)
        path, part = tmp_path / "b", tmp_path / "b.part"
        part.write_bytes(b"x" * 1_000_000)
        await terminal.type(backup, str(path))
        assert verified(capsys, path)["items"] == len(terminal.store.tenants)

    def test_a_full_disk_is_told_and_leaves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "b"
        path.write_bytes(b"before")
        with pytest.raises(Failed, match="cannot be written: No space left") as failed, replaced(str(path)):
            raise OSError(28, "No space left on device")
        assert failed.value.notes == ("What had this name before is as it was.",)
        assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("b", b"before")]


class TestVerify:
    @pytest_twisted.ensureDeferred
    async def test_people_are_told(
        self, terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await terminal.client.store([{"ID": 1, "tenant": "a"}, {"ID": 2, "deleted": True}])
        path = tmp_path / "b"
        await terminal.type(backup, str(path))
        assert run(["backup", "verify", str(path)]) == 0
        first, *rest = capsys.readouterr().out.splitlines()
        assert first == f"{path} is whole: 1 item of 1 tenant and 1 deleted ID"
        assert [each.split()[0] for each in rest] == ["written", "cluster", "position", "digest"]

    @pytest_twisted.ensureDeferred
    async def test_damage_is_named(
        self, terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await fill(terminal)
        path = tmp_path / "b"
        await terminal.type(backup, str(path))
        data = path.read_bytes()
        for damaged, why in (
            (data[:-10], f"is cut short: it ends at byte {len(data) - 10:,}"),
            (data[:100] + b"x" + data[101:], "is damaged between byte 0 and byte"),
            (data + b"more", "is damaged"),
        ):
            path.write_bytes(damaged)
            assert run(["backup", "verify", str(path)]) == Exit.NO
            assert why in capsys.readouterr().err
            assert run(["--json", "backup", "verify", str(path)]) == Exit.NO
            error = json.loads(capsys.readouterr().err)["error"]
            assert (error["code"], error["file"]) == ("damaged", str(path))
        path.write_bytes(b"hello")
        assert run(["backup", "verify", str(path)]) == Exit.FAILED
        assert f"{path} is no backup: it does not begin like one" in capsys.readouterr().err

    @pytest_twisted.ensureDeferred
    async def test_an_export_is_read_with_a_warning(
        self, terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await fill(terminal)
        path = tmp_path / "e"
        exported = await terminal.client.export(deleted=True)
        path.write_bytes(zstd.compress(b"".join([part async for part in exported])))
        assert run(["backup", "verify", str(path)]) == 0
        assert "is an export, not a backup" in capsys.readouterr().err
        before = await terminal.store.audit()
        emptied(terminal)
        [restored] = await terminal.type_json(restore, str(path))
        assert restored["equal"] is True
        assert (await terminal.store.audit()).digest == before.digest

    @pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"]])
    def test_both_have_help(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["backup", *arguments]) == 0
        shown = capsys.readouterr().out
        assert ("Usage: dcounter backup verify [OPTIONS] FILE" in shown) == ("verify" in arguments)
        assert "backup verify" in shown


def large(path: Path, number: int = 110_000) -> bytes:
    """
    A backup of several sections.
    """
    file = BytesIO()
    writer = Writer(Head(export=1, position="p", deleted=True, backup=1), file.write)
    for first in range(0, number, 10_000):
        writer.add(
            b"".join(
                b'{"ID":%d,"tenant":"tenant-%03d","lastUpdateDt":"2020-01-01T00:00:00.%09dZ"}\n'
                % (each, each % 997, each)
                for each in range(first, first + 10_000)
            )
        )
    writer.end("f")
    path.write_bytes(file.getvalue())
    return file.getvalue()


class TestRestore:
    @pytest_twisted.ensureDeferred
    async def test_only_into_an_empty_cluster(self, terminal: Terminal, tmp_path: Path) -> None:
        await terminal.client.store([{"ID": 1, "tenant": "a"}, {"ID": 2, "tenant": "a"}], stamp=NOW)
        path = tmp_path / "b"
        await terminal.type(backup, str(path))
        emptied(terminal)
        await terminal.client.store([{"ID": 2, "tenant": "newer"}, {"ID": 3, "tenant": "c"}], stamp=NOW + 1)
        with pytest.raises(
            Failed, match="the cluster is not empty: it has 2 items and 0 deleted IDs"
        ) as failed:
            await terminal.type(restore, str(path))
        assert failed.value.exit == Exit.REFUSED
        assert failed.value.details == {"items": 2, "tombstones": 0}
        assert terminal.store.tenants == {2: "newer", 3: "c"}
        text = await terminal.type(restore, str(path), "--merge")
        assert terminal.store.tenants == {1: "a", 2: "newer", 3: "c"}
        assert "the nodes 0 hold the same, and count it rightly: 3 items and 0 deleted IDs" in text
        assert terminal.exit is None
        # Deleted IDs are something, too.
        emptied(terminal)
        await terminal.client.delete([1])
        with pytest.raises(Failed, match="0 items and 1 deleted ID"):
            await terminal.type(restore, str(path))

    @pytest_twisted.ensureDeferred
    async def test_nothing_of_a_damaged_one_is_sent(self, terminal: Terminal, tmp_path: Path) -> None:
        path = tmp_path / "b"
        data = large(path)
        for damaged in (data[:-1], data[:-3000] + b"?" + data[-2999:], data[: len(data) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(Failed) as failed:
                await terminal.type(restore, str(path))
            assert (failed.value.code, failed.value.exit) == ("damaged", Exit.NO)
        assert terminal.store.tenants == {}

    @pytest_twisted.ensureDeferred
    async def test_it_goes_on_where_it_was(self, terminal: Terminal, tmp_path: Path) -> None:
        path, bookmark = tmp_path / "b", tmp_path / "b.restoring"
        large(path)
        whole = terminal.client.restore
        calls: list[int] = []

        async def fails(*lines: Any, **how: Any) -> Any:
            calls.append(1)
            if len(calls) > 1:
                raise Unreachable(ConnectionError(), sent=True)
            return await whole(*lines, **how)

        terminal.client.restore = fails  # type: ignore[method-assign]
        with pytest.raises(GaveUp):
            await terminal.type(restore, str(path), "--patience", "0")
        stored = len(terminal.store.tenants)
        assert 0 < stored < 110_000
        assert f"all before line {stored + 2:,} is stored: repeat the command to go on" in terminal.remarks
        assert json.loads(bookmark.read_bytes())["line"] == stored + 2
        terminal.client.restore = whole  # type: ignore[method-assign]
        [restored] = await terminal.type_json(restore, str(path))
        assert (restored["sent"], restored["equal"]) == (110_000 - stored, True)
        assert len(terminal.store.tenants) == 110_000
        assert not bookmark.exists()
        # Now it is complete, and is not begun again.
        with pytest.raises(Failed, match="not empty"):
            await terminal.type(restore, str(path))

    @pytest_twisted.ensureDeferred
    async def test_what_fails_is_sent_again(self, terminal: Terminal, tmp_path: Path) -> None:
        await fill(terminal)
        path = tmp_path / "b"
        await terminal.type(backup, str(path))
        emptied(terminal)
        whole = terminal.client.restore
        failures: list[Exception] = [
            Unreachable(ConnectionError(), sent=True),
            Refused(503, {"code": "busy", "title": "Busy", "detail": "", "retryable": True}),
        ]

        async def fails(*lines: Any, **how: Any) -> Any:
            result = await whole(*lines, **how)
            if failures:
                raise failures.pop()
            return result

        terminal.client.restore = fails  # type: ignore[method-assign]
        [restored] = await terminal.type_json(restore, str(path))
        assert restored["equal"] is True
        assert failures == []

    @pytest_twisted.ensureDeferred
    async def test_a_line_that_is_refused_is_named_by_its_number(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        path = tmp_path / "b"
        late = b'{"ID":%d,"tenant":"a","lastUpdateDt":"2261-01-01T00:00:00.000000000Z"}\n'
        fine = b'{"ID":%d,"tenant":"a","lastUpdateDt":"2020-01-01T00:00:00.000000000Z"}\n'
        file = BytesIO()
        writer = Writer(Head(export=1, position="p", deleted=True, backup=1), file.write)
        writer.add(fine % 1 + fine % 2 + late % 3)
        writer.end("f")
        path.write_bytes(file.getvalue())
        with pytest.raises(
            Failed, match=f"the daemon refuses line 4 of {path}: lastUpdateDt: is too far ahead"
        ) as failed:
            await terminal.type(restore, str(path))
        assert failed.value.notes == ("What is before that line is stored.",)
        assert terminal.store.tenants.keys() == {1, 2}

    @pytest_twisted.ensureDeferred
    async def test_a_difference_is_found(self, terminal: Terminal, tmp_path: Path) -> None:
        await fill(terminal)
        path = tmp_path / "b"
        await terminal.type(backup, str(path))
        emptied(terminal)
        whole = terminal.client.restore

        async def disturbed(*lines: Any, **how: Any) -> Any:
            await terminal.client.store([{"ID": 987_654_321, "tenant": "other"}])
            return await whole(*lines, **how)

        terminal.client.restore = disturbed  # type: ignore[method-assign]
        text = await terminal.type(restore, str(path))
        assert terminal.exit == Exit.NO
        assert "different: the nodes 0 hold " in text

    @pytest_twisted.ensureDeferred
    async def test_who_may_not_audit_is_told_before_anything_is_sent(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        path = tmp_path / "b"
        await terminal.client.store([{"ID": 1, "tenant": "a"}])
        await terminal.type(backup, str(path))
        emptied(terminal)
        terminal.client._operator_token = None  # noqa: SLF001 - a caller without it
        with pytest.raises(Failed, match="the audit at the end is not possible: Not permitted") as failed:
            await terminal.type(restore, str(path))
        assert "Nothing was sent." in failed.value.notes
        assert "Or leave the audit out: --no-audit." in failed.value.notes
        assert terminal.store.tenants == {}
        await terminal.type(restore, str(path), "--no-audit")
        assert terminal.exit is None
        assert "no audit has compared the nodes with the backup" in terminal.remarks
        assert terminal.store.tenants == {1: "a"}


class TestBookmark:
    def test_it_remembers_one_restore_only(self, tmp_path: Path) -> None:
        path = str(tmp_path / "b")
        bookmark = Bookmark(path, "cluster", "hash")
        assert bookmark.line == 0
        bookmark.move(17)
        assert Bookmark(path, "cluster", "hash").line == 17
        assert Bookmark(path, "other", "hash").line == 0
        assert Bookmark(path, "cluster", "other").line == 0
        bookmark.remove()
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("data", [b"", b"{", b'{"cluster":1}', b"\xff"])
    def test_what_is_none_is_none(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "b").write_bytes(data)
        assert Bookmark(str(tmp_path / "b"), "cluster", "hash").line == 0

    def test_a_place_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        bookmark = Bookmark(str(tmp_path / "none" / "b"), "cluster", "hash")
        bookmark.move(5)
        assert (bookmark.line, bookmark.is_kept) == (5, False)
        assert "cannot be written: No such file" in bookmark.trouble

    def test_without_a_path_or_a_cluster_nothing_is_kept(self, tmp_path: Path) -> None:
        for path, cluster in ((None, "c"), (str(tmp_path / "b"), "")):
            bookmark = Bookmark(path, cluster, "hash")
            bookmark.move(5)
            bookmark.remove()
            assert (bookmark.line, bookmark.is_kept) == (5, False)
        assert os.listdir(tmp_path) == []

"""
What `dcounter check` says, and how it ends.
"""

import json
import shutil
from pathlib import Path

import pytest

from dcounter.cli.exits import Exit
from dcounter.cli.main import run
from dcounter.journal.disk import RealDisk
from tests.support.data_directories import make_data_directory


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "data"
    make_data_directory(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def test_a_whole_directory(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(path)]) == 0
    heads, *rows, blank, end = capsys.readouterr().out.splitlines()
    assert heads.split() == ["node", "state", "items", "deleted", "tenants", "files", "lines", "bytes"]
    assert [each.split()[:5] for each in rows] == [[str(n), "whole", "450", "150", "3"] for n in range(3)]
    assert (blank, end) == ("", f"nothing is wrong in {path}")


def test_a_damaged_one(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = max((path / "node-1").glob("*.journal"))
    data = bytearray(file.read_bytes())
    data[50] ^= 1
    file.write_bytes(data)
    (path / "node-0" / "000000000001.journal").write_bytes(b"")
    assert run(["check", str(path)]) == Exit.NO
    table, found, advice, end = capsys.readouterr().out.split("\n\n")
    assert "1     wrong      -        -        -" in table
    damage, remark = found.splitlines()
    assert damage.startswith(
        f"node-1/{file.name} is damaged at byte 50, which is 0x{data[50]:02x} and was 0x"
    )
    assert remark == "node-0/000000000001.journal is no longer needed: the next start removes it"
    assert advice.startswith(
        "What to do:\n- keep a copy of this directory, and start the daemon with --rebuild 1"
    )
    assert end == f"1 fault in {path}\n"

    assert run(["--json", "check", str(path)]) == Exit.NO
    shown = json.loads(capsys.readouterr().out)
    assert (shown["faults"][0]["file"], shown["directory"]) == (f"node-1/{file.name}", str(path))
    assert shown["faults"][0]["begin"] <= 50 < shown["faults"][0]["end"]
    assert [each["whole"] for each in shown["nodes"]] == [True, False, True]
    assert "items" not in shown["nodes"][1]


def test_one_in_use(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = RealDisk(str(path))
    disk.open()
    assert run(["check", str(path)]) == Exit.FAILED
    disk.close()
    text = capsys.readouterr().err
    assert "is used by process" in text
    assert "stop it first, or check a copy" in text


def test_what_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path)]) == Exit.FAILED
    assert "is no data directory" in capsys.readouterr().err
    assert run(["check", str(tmp_path / "none")]) == Exit.USAGE

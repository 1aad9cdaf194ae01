"""
The command that checks a configuration.
"""

import json
from pathlib import Path

import pytest

from dcounter.cli.exits import Exit
from dcounter.cli.main import run


def test_what_is_right_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text("nodes = 3")
    (tmp_path / "n.toml").write_text('id = 0\nsecret-file = "n.toml"')
    assert run(["config", "check", str(tmp_path / "c.toml")]) == Exit.OK
    assert run(["config", "check", "--node", str(tmp_path / "n.toml")]) == Exit.OK
    assert run(["config", "check"]) == Exit.OK
    assert capsys.readouterr().out == "nothing is wrong\n" * 3


def test_what_is_wrong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("# nodes\nnode = 3\n")
    monkeypatch.setenv("DCOUNTER_ZEBRA", "1")
    why = "there is no option 'node': did you mean nodes?"
    assert run(["config", "check", str(file)]) == Exit.NO
    assert capsys.readouterr().out.splitlines() == [
        "note: DCOUNTER_ZEBRA: no option has this name: ignored",
        f"{file}, line 2: {why}",
    ]
    assert run(["--json", "config", "check", str(file)]) == Exit.NO
    assert json.loads(capsys.readouterr().out)["findings"][1] == {
        "where": f"{file}, line 2",
        "text": why,
        "fatal": True,
    }


def test_a_note_is_no_fault(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCOUNTER_ZEBRA", "1")
    assert run(["config", "check"]) == Exit.OK
    assert capsys.readouterr().out.startswith("note: ")

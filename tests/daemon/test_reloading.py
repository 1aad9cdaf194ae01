"""
What SIGHUP does with a configuration file that has changed.
"""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from dcounter.daemon.option_table import DAEMON, NODE
from dcounter.daemon.options import Options
from dcounter.daemon.reloading import Reloading
from dcounter.tap import makeService


class Reloaded:
    """
    A configuration file, and what was made of its changes.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / "c.toml"
        self.file.write_text('log-level = "warn"\nnodes = 3')
        self.options = Options({"DCOUNTER_ACK": "all"})
        self.options.parseOptions(["--config", str(self.file), "--idle=9"])
        self.used: list[Any] = []
        self.reloading = Reloading(self.options)
        self.reloading.on_change("log-level", self.used.append)
        self.reloading.on_change("host", self.used.append)


@pytest.fixture
def reloaded(tmp_path: Path) -> Reloaded:
    return Reloaded(tmp_path)


def test_new_values_are_used_and_told(reloaded: Reloaded, caplog: pytest.LogCaptureFixture) -> None:
    reloaded.file.write_text('log-level = "debug"\nnodes = 3\nhost = ["a.example"]')
    with caplog.at_level("INFO"):
        reloaded.reloading.reload()
        reloaded.reloading.reload()
    assert sorted(map(str, reloaded.used)) == ["['a.example']", "debug"]
    assert (reloaded.options["log-level"], reloaded.options["host"]) == ("debug", ["a.example"])
    assert [each.getMessage() for each in caplog.records] == [
        f"host is a.example now, it was not set ({reloaded.file})",
        f"log-level is debug now, it was warn ({reloaded.file})",
    ]


def test_what_needs_a_restart_is_told_as_long_as_it_does(
    reloaded: Reloaded, caplog: pytest.LogCaptureFixture
) -> None:
    reloaded.file.write_text('log-level = "warn"\nnodes = 5')
    reloaded.reloading.reload()
    reloaded.reloading.reload()
    assert [each.getMessage() for each in caplog.records] == [
        f"nodes is 5 in {reloaded.file}, but 3 until dcounter is restarted"
    ] * 2
    assert (reloaded.options["nodes"], reloaded.used) == (3, [])


def test_a_file_with_a_mistake_changes_nothing(reloaded: Reloaded, caplog: pytest.LogCaptureFixture) -> None:
    reloaded.file.write_text('log-level = "debug"\nnode = 5\nidle = 1')
    reloaded.reloading.reload()
    assert reloaded.used == []
    [line] = [each.getMessage() for each in caplog.records]
    assert line.startswith(f"{reloaded.file}, line 2: there is no option 'node': did you mean nodes?")
    assert line.endswith("; the options that were read before stay in use")


def test_stronger_sources_keep_their_values(reloaded: Reloaded, caplog: pytest.LogCaptureFixture) -> None:
    reloaded.file.write_text('log-level = "warn"\nnodes = 3\nidle = 10\nack = "node"')
    reloaded.reloading.reload()
    assert not caplog.records


def test_without_a_file_there_is_nothing_to_read(caplog: pytest.LogCaptureFixture) -> None:
    options = Options({})
    options.parseOptions([])
    Reloading(options).reload()
    assert not caplog.records


def test_the_list_of_options_says_what_can_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Reloading] = []

    def noted(self: Reloading, options: Any) -> None:
        plain(self, options)
        made.append(self)

    plain = Reloading.__init__
    monkeypatch.setattr(Reloading, "__init__", noted)
    (tmp_path / "secret").write_text("x" * 16)
    for arguments, settings in (
        (["--in-memory"], DAEMON),
        (["node", "--in-memory", f"--secret-file={tmp_path / 'secret'}"], NODE),
    ):
        options = Options({})
        options.parseOptions(arguments)
        makeService(options, MemoryReactorClock())
        assert made[-1].changeable == {each.name for each in settings if each.reload == "value"}

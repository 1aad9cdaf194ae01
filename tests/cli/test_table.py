"""
The table of commands: it says what they say of themselves, and to list them imports none.
"""

import subprocess
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from dcounter.cli.main import root
from dcounter.cli.table import COMMANDS

_ROOT = Path(__file__).parents[2]
_HEAVY = {"twisted", "numpy", "rich", "treq", "klein", "cryptography"}
_CONTEXT = click.Context(root, info_name="dcounter")


def _imported(code: str) -> set[str]:
    """
    The packages that are imported when code has run.
    """
    show = "import sys; sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stderr.split())


def _commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from _commands(each)


def test_help_imports_nothing_heavy() -> None:
    found = _imported("from dcounter.cli.main import run; assert run(['--help']) == 0")
    # To decode JSON is not what help does.
    assert not found & {*_HEAVY, "msgspec"}
    assert "click" in found


def test_modules_of_commands_are_light() -> None:
    modules = ", ".join(sorted({f"dcounter.cli.{row.module}" for row in COMMANDS.values()}))
    assert not _imported(f"import {modules}") & _HEAVY


def test_completion_of_a_command_imports_no_command() -> None:
    found = ShellComplete(root, {}, "dcounter", "_DCOUNTER_COMPLETE").get_completions([], "t")
    assert [each.value for each in found] == ["token", "top", "tenants"]
    options = ShellComplete(root, {}, "dcounter", "_DCOUNTER_COMPLETE").get_completions(["get"], "--co")
    assert [each.value for each in options] == ["--consistency"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_a_command_says(name: str) -> None:
    command = root.get_command(_CONTEXT, name)
    assert command is not None
    assert cleandoc(command.help or "").splitlines()[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"serve", "completion"}))
def test_every_command_has_json(name: str) -> None:
    command = root.get_command(_CONTEXT, name)
    assert command is not None
    for each in _commands(command):
        if not isinstance(each, click.Group):
            assert "--json" in {option for parameter in each.params for option in parameter.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_options_explain_themselves(name: str) -> None:
    command = root.get_command(_CONTEXT, name)
    assert command is not None
    for each in _commands(command):
        for parameter in each.params:
            assert not isinstance(parameter, click.Option) or parameter.help

"""
docs/cli.md shows commands and fields as they are.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dcounter.cli.main import root
from dcounter.cli.putting import Account
from dcounter.cli.standing import NodeStanding, Standing
from dcounter.cli.table import COMMANDS
from docs.reference.pages import complete

_PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
_CONTEXT = click.Context(root, info_name="dcounter")


def _examples() -> Iterator[str]:
    """
    The commands in examples and in the text.
    """
    code = re.findall(r"^```sh\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`(dcounter [^`]+)`", _PAGE)
    for text in [*"\n".join(code).splitlines(), *spans]:
        # Up to what the shell makes of its output.
        for found in re.findall(r"\bdcounter (?!COMMAND)[^|><)&]+", text):
            yield found.strip().rstrip(";")


@pytest.mark.parametrize("example", sorted(set(_examples())))
def test_examples_are_commands(example: str) -> None:
    words = shlex.split(example)[1:]
    command: click.Command | None = root
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(click.Context(command, _CONTEXT), words.pop(0))
    assert command is not None
    options = {option for each in command.get_params(_CONTEXT) for option in each.opts}
    given = {word for word in words if word.startswith("--")}
    # serve has those of the daemon.
    assert command.name == "serve" or given <= options


def test_the_page_shows_what_programs_get() -> None:
    fields = {*Account.__struct_fields__, *Standing.__struct_fields__, *NodeStanding.__struct_fields__}
    assert {each for each in fields if f"`{each}`" not in _PAGE} == set()


def test_the_reference_has_every_command_and_every_option() -> None:
    page = complete(_PAGE)
    for name in COMMANDS:
        assert f"\n#### `dcounter {name}`\n" in page
        command = root.get_command(_CONTEXT, name)
        assert command is not None
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or f"`{parameter.opts[0]}" in page
    for name in ("new", "list", "revoke"):
        assert f"\n#### `dcounter token {name}`\n" in page

"""
Commands of `dcounter`, run in this process against an API in memory.
"""

import json
from collections.abc import Sequence
from typing import Any

import click
import pytest

from dcounter.cli.output import Output
from dcounter.cli.session import Session
from dcounter.testing.http import MemoryClient, MemoryOperator, MemoryStore

NOW = 1_700_000_000 * 10**9


class Terminal:
    """
    Someone who types commands.

    :ivar store: where the items are.
    :ivar client: what the commands call.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], reactor: Any) -> None:
        self.store = MemoryStore()
        self.operator = MemoryOperator()
        self.client = MemoryClient(self.store, self.operator)
        self.exit: Any = None
        self.output = ""
        self.remarks = ""
        self._seen = ""
        self._capsys = capsys
        self._reactor = reactor

    async def type(self, command: click.Command, *arguments: str, as_json: bool = False) -> str:
        """
        Run a command; return what it writes to standard output, without colours.

        Its exit status and what it writes to standard error are then `exit` and `remarks`; its output is
        `output`, too, also if it fails.
        """
        context = command.make_context("it", [*arguments])
        work: Any = getattr(command.callback, "__wrapped__", None)
        session = Session("memory:", self.client, Output(json=as_json), self._reactor, lambda: NOW)
        try:
            self.exit = await work(session, **context.params)
        finally:
            out, err = self._capsys.readouterr()
            self.output, self.remarks = click.unstyle(self._seen + out), click.unstyle(err)
            self._seen = ""
        return self.output

    def peek(self) -> str:
        """
        What a command that still runs has written to standard output.
        """
        out, _ = self._capsys.readouterr()
        self._seen += out
        return self._seen

    async def type_json(self, command: click.Command, *arguments: str) -> Sequence[Any]:
        """
        Run a command; return what it writes, line by line.
        """
        return [
            json.loads(line) for line in (await self.type(command, *arguments, as_json=True)).splitlines()
        ]

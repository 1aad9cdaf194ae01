"""
What went wrong with a command, in words.
"""

from collections.abc import Mapping
from typing import IO, Any

import click

from dcounter.cli.exits import Exit


class Failed(click.ClickException):
    """
    A command failed.

    :param message: what happened, and to what.
    :param notes: sentences that help: whether anything was stored, what to do.
    :param details: further fields for programs, which `--json` shows.
    """

    def __init__(
        self,
        message: str,
        *notes: str,
        exit: Exit = Exit.FAILED,
        code: str = "failed",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.exit = exit
        self.notes = notes
        self.code = code
        self.details = details or {}

    def show(self, file: IO[Any] | None = None) -> None:
        click.secho(f"dcounter: {self.message}", fg="red", err=True, file=file)
        for each in self.notes:
            click.echo(f"  {each}", err=True, file=file)

    def document(self) -> Mapping[str, Any]:
        """
        The same for programs.
        """
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "notes": self.notes,
                "exit": int(self.exit),
                **self.details,
            }
        }


class Stopped(BaseException):
    """
    The process was told to stop, and what it did is undone or said.

    :ivar number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

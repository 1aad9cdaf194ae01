"""
What commands write: results to standard output, remarks to standard error.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

_SPACES: Final = "  "


def shown(text: str) -> str:
    r"""
    A text from elsewhere, on one line and harmless to a terminal: other characters are escaped as in `\x1b`.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        each if each.isprintable() and each != "\\" else each.encode("unicode_escape").decode()
        for each in text
    )


def many(number: int, noun: str) -> str:
    """
    A number of things, in words.
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Output:
    """
    Writes results for people or, with `--json`, for programs.

    :ivar json: whether it is for programs.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def result(self, value: Any, text: str | None) -> None:
        """
        Write a result.

        :param value: for programs: anything that msgspec can encode.
        :param text: for people; `None`: nothing.
        """
        if self.json:
            self.document(value)
        elif text is not None:
            click.echo(text)

    def document(self, value: Any) -> None:
        """
        Write a line of JSON.
        """
        import msgspec

        self.raw(msgspec.json.encode(value) + b"\n")

    def raw(self, data: bytes) -> None:
        """
        Write bytes.
        """
        click.echo(data, nl=False)

    def remark(self, text: str) -> None:
        """
        Tell people something that is not the result.
        """
        if not self.json:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """
        Tell people what they should know, and mark it.
        """
        click.secho(f"warning: {text}", fg="yellow", err=True)


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """
    Lines of aligned columns.

    :param heads: what stands above each; none: no such line.
    :param rows: texts that are fit for a terminal (see `shown`); they may have colours.
    :param right: which columns are aligned at their right end.
    """
    from rich.cells import cell_len

    def size(cell: str) -> int:
        return cell_len(click.unstyle(cell))

    lines = [*([heads] if heads else []), *rows]
    widths = [max(map(size, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            gap = " " * (width - size(cell))
            padded.append(gap + cell if number in right else cell + gap)
        return _SPACES.join(padded).rstrip()

    first, *others = map(line, lines)
    return "\n".join([click.style(first, bold=True) if heads else first, *others])


def coloured(text: str, colour: str) -> str:
    """
    A text in a colour; an empty one stays empty.
    """
    return click.style(text, fg=colour) if text else ""


def is_terminal() -> bool:
    """
    Whether standard output is a terminal.
    """
    return sys.stdout.isatty()

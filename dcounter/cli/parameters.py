"""
Types of options that click does not have.
"""

from collections.abc import Sequence
from typing import Any

import click

from dcounter.stamps import InvalidStamp, parse_stamp


class Stamp(click.ParamType[int]):
    """
    A time (RFC 3339), as ns since 1970.
    """

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_stamp(value)
        except InvalidStamp as error:
            self.fail(f"{value!r} {error}", param, ctx)


STAMP = Stamp()


class Column(click.ParamType[tuple[str, str]]):
    """
    A field of an item and the column that holds it, as FIELD=COLUMN.

    :param fields: that there are.
    """

    name = "column"

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        field, _, column = value.partition("=")
        if field not in self._fields or not column:
            self.fail(f"{value!r} is not like ID=NAME; the fields are {', '.join(self._fields)}", param, ctx)
        return field, column

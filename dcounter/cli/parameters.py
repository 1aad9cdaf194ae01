"""
Types of options that click does not have.
"""

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

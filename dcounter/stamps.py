"""
Stamps as callers write and read them: RFC 3339 with nine fractional digits.

This module is public (docs/extending.md).
"""

import re
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final

_SECOND: Final = 1_000_000_000
_LENGTH: Final = len("1970-01-01T00:00:00.000000000Z")
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_RFC_3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


class InvalidStamp(ValueError):
    """
    A text is not a stamp; the message completes the sentence "the field ...".
    """


def parse_stamp(text: str) -> int:
    """
    Turn an RFC 3339 time into ns since 1970, exactly; before 1970 they are negative.

    :raises InvalidStamp: the text is not a valid time; the message says why.
    """
    # As we show stamps ourselves. Many of those that come together share a second.
    if len(text) == _LENGTH and text[-1] == "Z" and text[19] == "." and text.isascii():
        fraction = text[20:-1]
        if fraction.isdecimal():
            return _second(text[:19]) * _SECOND + int(fraction)
    return _parse(text)


@lru_cache(maxsize=1024)
def _second(text: str) -> int:
    """
    A time without fraction and offset, in seconds.
    """
    return _parse(f"{text}Z") // _SECOND


def _parse(text: str) -> int:
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise InvalidStamp("is not an RFC 3339 time such as 2026-01-31T12:00:00.123456789Z")
    day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    if fraction is not None and len(fraction) > 9:
        raise InvalidStamp("has more than nine fractional digits")
    if second == "60":
        raise InvalidStamp("is a leap second, which has no stamp of its own: send second 59 instead")
    if hour > "23" or minute > "59" or second > "59":
        raise InvalidStamp("has an invalid time of day")
    try:
        days = date.fromisoformat(day).toordinal() - _EPOCH_DAY
    except ValueError:
        raise InvalidStamp("has an invalid date") from None
    seconds = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    if sign is not None:
        if offset_hour > "23" or offset_minute > "59":
            raise InvalidStamp("has an invalid offset")
        offset = int(offset_hour) * 3_600 + int(offset_minute) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * _SECOND + (int(fraction.ljust(9, "0")) if fraction is not None else 0)


def show_stamp(stamp: int) -> str:
    """
    Turn ns since 1970 into RFC 3339 with nine fractional digits, in UTC.
    """
    seconds, nanoseconds = divmod(stamp, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()}.{nanoseconds:09}Z"

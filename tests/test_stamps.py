"""
Stamps as text: what is shown is read again, by the short way and by the usual one.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.stamps import InvalidStamp, parse_stamp, show_stamp
from tests.support.strategies import stamps


@given(stamps)
def test_what_is_shown_is_read_again(stamp: int) -> None:
    text = show_stamp(stamp)
    # Other spellings take the usual way.
    for spelling in (text, text.lower(), text.replace("Z", "+00:00"), text.replace("Z", "-00:00")):
        assert parse_stamp(spelling) == stamp


@given(st.text("0123456789-T:.Z+é٣", min_size=30, max_size=30))
def test_both_ways_agree(text: str) -> None:
    try:
        stamp = parse_stamp(text)
    except InvalidStamp:
        with pytest.raises(InvalidStamp):
            parse_stamp(text.lower())
    else:
        assert parse_stamp(text.lower()) == stamp


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T12:00:00.000000000Z",
        "2026-01-31T24:00:00.000000000Z",
        "2026-01-31T12:00:60.000000000Z",
        "2026-01-31T12:00:00.00000000٣Z",
        "2026-01-31T12:00:00.00000000-Z",
        "2026-01-31 12:00:00.000000000Z",
    ],
)
def test_mistakes_of_that_length(text: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidStamp):
            parse_stamp(text)

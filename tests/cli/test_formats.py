"""
Items are read from files in all forms, however their bytes arrive.
"""

import csv
import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter import zstd
from dcounter.cli.failures import Failed
from dcounter.cli.formats import Entry, Measured, Reading

TENANTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9)
ITEMS = st.lists(
    st.fixed_dictionaries({"ID": st.integers(-(2**63), 2**63 - 1), "tenant": TENANTS}),
    min_size=1,
    max_size=30,
)


class Slow(io.RawIOBase):
    """
    Bytes that arrive a few at a time.
    """

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__()
        self._left = data
        self._size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        size = min(self._size, len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def lines(items: list[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in items)


def array(items: list[Any]) -> bytes:
    return json.dumps(items, indent=1, ensure_ascii=False).encode()


def table(items: list[Any]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["tenant", "note", "ID"], delimiter=";")
    writer.writeheader()
    writer.writerows({**each, "note": "x"} for each in items)
    return text.getvalue().encode()


def read(data: bytes, size: int = 1 << 20) -> tuple[list[Entry], Reading]:
    reading = Reading(Slow(data, size))
    return [each for each in reading if each is not None], reading


@given(
    ITEMS,
    st.sampled_from([lines, array, table]),
    st.sampled_from([bytes, gzip.compress, zstd.compress]),
    st.booleans(),
    st.integers(1, 60),
)
def test_all_forms_hold_the_same(items: list[Any], form: Any, compress: Any, marked: bool, size: int) -> None:
    data = b"\xef\xbb\xbf" * marked + form(items)
    found, reading = read(compress(data), size)
    assert [json.loads(each.text) for each in found] == items
    assert not any(b"\n" in each.text for each in found)
    numbers = [each.number for each in found]
    assert numbers == sorted(set(numbers))
    assert reading.unit == ("item" if form is array else "line")


def test_lines_are_counted_with_blank_ones() -> None:
    found, _ = read(b'{"ID":1}\r\n\n  {"ID":2}  \nx\n{"ID":3}')
    assert found == [Entry(1, b'{"ID":1}'), Entry(3, b'{"ID":2}'), Entry(4, b"x"), Entry(5, b'{"ID":3}')]
    assert read(b"")[0] == []


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("ID,tenant\n1,a\n", [{"ID": 1, "tenant": "a"}]),
        (
            "Tenant\tid\tLASTUPDATEDT\na\t 7 \t2026-01-01T00:00:00Z\n",
            [{"tenant": "a", "ID": 7, "lastUpdateDt": "2026-01-01T00:00:00Z"}],
        ),
        ("ID,tenant,lastUpdateDt\n1,a,\n", [{"ID": 1, "tenant": "a"}]),
        ("ID,deleted\n1,true\n2,Yes\n", [{"ID": 1, "deleted": True}, {"ID": 2, "deleted": True}]),
        (
            "ID,tenant,deleted\n1,,1\n2,b,\n3,c,maybe\n",
            [
                {"ID": 1, "deleted": True},
                {"ID": 2, "tenant": "b"},
                {"ID": 3, "tenant": "c", "deleted": "maybe"},
            ],
        ),
        # What is no item is for the daemon to refuse.
        ("ID,tenant\nx,a\n1.5,\n2\n", [{"ID": "x", "tenant": "a"}, {"ID": "1.5", "tenant": ""}, {"ID": 2}]),
        ('id|tenant\n1|"a|""b"""\n\n2|c\n', [{"ID": 1, "tenant": 'a|"b"'}, {"ID": 2, "tenant": "c"}]),
    ],
)
def test_tables(text: str, items: list[Any]) -> None:
    assert [json.loads(each.text) for each in read(text.encode())[0]] == items


def test_columns_may_have_other_names() -> None:
    data = b"id,customer,owner\n9,1,a\n"
    reading = Reading(Slow(data, 99), {"ID": "Customer", "tenant": "owner"})
    assert [json.loads(each.text) for each in reading if each is not None] == [{"ID": 1, "tenant": "a"}]
    with pytest.raises(Failed, match="nor CSV with a column 'none'"):
        list(Reading(Slow(data, 99), {"tenant": "none"}))


@pytest.mark.parametrize(
    ("data", "given", "why"),
    [
        (b"tenant,x\na,1\n", 0, "nor CSV with a column 'ID'"),
        (b"ID,x\na,1\n", 0, "nor CSV with a column 'tenant'"),
        (b"ID,tenant,id\n1,a,2\n", 0, "more than one column 'ID'"),
        (b"hello\n", 0, "nor CSV with a column 'ID'"),
        (b"ID,tenant\n1,\xff\n", 0, "the input: it is not UTF-8"),
        (b'[{"ID":1}, {"ID":2}', 2, "breaks off after item 2: the JSON array breaks off"),
        (b'[{"ID":1} {"ID":2}]', 1, "after item 1: a comma or the end of the JSON array is missing"),
        (b'[{"ID":1}] x', 1, "after item 1: more follows after the end"),
        (b'[{"ID":1},]', 1, "no JSON"),
        pytest.param(b"[" * 100_000, 0, "nested too deeply", id="deep"),
        pytest.param(b'[{"ID":1},"' + b"x" * 2**21, 1, "longer than", id="long item"),
        pytest.param(b'{"ID":1}\n' + b"x" * 2**21, 1, "line 1: the next one is longer", id="long line"),
        pytest.param(gzip.compress(b"{}\n")[:-9], 0, "cannot be decompressed", id="gzip cut"),
        pytest.param(gzip.compress(b"{}\n") + b"more", 0, "cannot be decompressed", id="gzip with more"),
        pytest.param(zstd.compress(b"{}\n")[:-1], 0, "cannot be decompressed", id="zstd cut"),
    ],
)
def test_what_cannot_be_understood_ends_it(data: bytes, given: int, why: str) -> None:
    found: list[Entry | None] = []
    with pytest.raises(Failed, match=why):
        found.extend(Reading(Slow(data, 1 << 20)))
    assert len([each for each in found if each is not None]) == given


def test_what_is_read_is_measured() -> None:
    file = Measured(Slow(b"x" * 100, 7))
    assert len(io.BufferedReader(file).read()) == file.read_bytes == 100


def test_an_array_may_be_empty() -> None:
    assert read(b" [ ] \n")[0] == []

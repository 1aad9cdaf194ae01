import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.errors import CorruptJournal
from dcounter.journal import framing
from dcounter.journal.framing import JournalEntry, frame, unframe, unframe_all, unframe_begin

# As messages are: any bytes but the end of a line.
lines = st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" "))
entries = st.builds(JournalEntry, lines, st.integers(0, 65_535), st.integers(0, 2**63), st.integers(0, 2**63))


def scan(data: bytes) -> tuple[list[JournalEntry], int]:
    """
    The entries of a file, and the size of the part of it that they take.
    """
    found: list[JournalEntry] = []
    size = 0
    for entry, end in framing.scan([data]):
        if entry is None:
            assert end == len(data)
        else:
            found.append(entry)
            size = end
    return found, size


def _file(*lines: bytes) -> bytes:
    return b"".join(frame(JournalEntry(line, 1, 2, number)) for number, line in enumerate(lines, 1))


def test_a_record_can_be_read_by_people() -> None:
    record = frame(JournalEntry(b'{"a":1}', 3, 1_800, 12))
    checked = b'7 3 1800 12 {"a":1}'
    assert record == b"%08x %s\n" % (zlib.crc32(checked), checked)


@given(entries)
def test_a_record_comes_back_as_it_was(entry: JournalEntry) -> None:
    assert unframe(frame(entry).removesuffix(b"\n")) == entry


@given(st.lists(entries))
def test_a_file_comes_back_as_it_was(kept: list[JournalEntry]) -> None:
    data = b"".join(map(frame, kept))
    assert scan(data) == (kept, len(data))


@given(st.lists(entries, min_size=1), st.data())
def test_a_byte_that_changed_is_noticed(kept: list[JournalEntry], data: st.DataObject) -> None:
    written = bytearray(b"".join(map(frame, kept)))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    ends = [0, *(end for _, end in unframe_all([b"".join(map(frame, kept))]))]
    damaged = sum(end <= place for end in ends[1:])

    if any(entry for entry, _ in unframe_all([bytes(written[ends[damaged] :])])):
        with pytest.raises(CorruptJournal, match=f"damaged at byte {ends[damaged]},"):
            scan(bytes(written))
    else:
        # Nothing valid is behind it; what is before it is as it was.
        assert scan(bytes(written)) == (kept[:damaged], ends[damaged])


@given(st.lists(entries, min_size=1, max_size=3))
def test_what_ends_too_early_is_a_torn_tail(kept: list[JournalEntry]) -> None:
    data = b"".join(map(frame, kept))
    ends = [end for _, end in unframe_all([data])]
    for size in range(len(data)):
        whole = sum(end <= size for end in ends)
        assert scan(data[:size]) == (kept[:whole], [0, *ends][whole])


@given(st.binary(max_size=100))
def test_garbage_at_the_end_is_a_torn_tail(garbage: bytes) -> None:
    data = _file(b"one", b"two")
    assert scan(data + garbage) == (scan(data)[0], len(data))


@pytest.mark.parametrize("place", [0, 5, 20])
def test_damage_before_valid_lines_is_corruption(place: int) -> None:
    first = len(_file(b"one"))
    data = bytearray(_file(b"one", b"two", b"three", b"four"))
    data[first + place] ^= 1
    with pytest.raises(CorruptJournal, match=f"damaged at byte {first}, and valid lines follow"):
        scan(bytes(data))


def test_a_hole_of_zeros_before_valid_lines_is_corruption() -> None:
    data = _file(b"one") + bytes(100) + b"\n" + _file(b"two")
    with pytest.raises(CorruptJournal, match="damaged"):
        scan(data)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"00000000",
        b"00000000 ",
        b"0 1 2 3 4 a",
        *(b"%08x %s" % (zlib.crc32(c), c) for c in (b"1 2 3 4", b"2 2 3 4 a", b"1 2 3 x a", b"x 2 3 4 a")),
        b"%08X %s" % (zlib.crc32(b"1 2 3 4 a"), b"1 2 3 4 a"),
    ],
)
def test_what_was_never_written_is_no_record(line: bytes) -> None:
    assert unframe(line) is None


def test_an_empty_file_holds_nothing() -> None:
    assert scan(b"") == ([], 0)


@given(st.lists(entries), st.binary(max_size=20), st.integers(1, 50))
def test_a_file_may_be_read_in_parts(kept: list[JournalEntry], torn: bytes, size: int) -> None:
    data = b"".join(map(frame, kept)) + torn
    parts = [data[first : first + size] for first in range(0, len(data), size)]
    assert list(unframe_all(parts)) == list(unframe_all([data]))


@given(entries, st.integers(0, 200))
def test_the_beginning_of_a_record_tells_where_it_ends(entry: JournalEntry, more: int) -> None:
    whole = frame(entry) + b"x" * 200
    head = len(frame(entry)) - 1 - len(entry.line)
    found = unframe_begin(whole[: head + more])
    assert found == (whole[head : head + more], len(frame(entry)) - 1)


@pytest.mark.parametrize("begin", [b"", b"1", b"0 1 2 3 4", b"0 x 2 3 4 a", b"0 -90 2 3 4 a"])
def test_what_is_no_beginning_of_a_record(begin: bytes) -> None:
    assert unframe_begin(begin) is None

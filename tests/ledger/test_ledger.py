from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dcounter.ledger.ledger import Ledger, Winner
from dcounter.ledger.rows import Rows
from dcounter.protocol import codec, copies
from dcounter.protocol.batch import Batch
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import Position
from tests.support import strategies
from tests.support.entries import Row, anything, batches, colliding, merge, model, recount


def _piece(rows: Sequence[Row]) -> Rows:
    ids, stamps, tenants = ([row[column] for row in rows] for column in range(3))
    packed = Batch([len(rows)] if rows else [], ids, tenants, stamps=stamps).pack().packed()  # type: ignore[arg-type]
    assert packed is not None
    return Rows(*packed)


def _of(*batches: Sequence[Row]) -> Ledger:
    ledger = Ledger()
    for batch in batches:
        merge(ledger, batch)
    return ledger


def _assert_is(ledger: Ledger, rows: Iterable[Row]) -> None:
    """
    The ledger holds what a naive map of these entries holds, and its counts are a recount of it.
    """
    rows = list(rows)
    winners = model(rows)
    counts = recount(rows)
    for item, row in winners.items():
        assert ledger.get(item) == Winner(row.stamp, row.tenant)
    assert ledger.known == len(winners)
    assert len(ledger) == sum(counts.values())
    listed = list(ledger.tenants())
    assert len(listed) == len(dict(listed))
    assert dict(listed) == counts
    assert all(count > 0 for _, count in listed)
    for tenant in {row.tenant for row in rows if row.tenant is not None}:
        assert ledger.count(tenant) == counts.get(tenant, 0)


@given(st.lists(batches, max_size=6), st.data())
def test_order_repetition_and_division_of_merges_change_nothing(
    batches: list[list[Row]], data: st.DataObject
) -> None:
    rows = [row for batch in batches for row in batch]
    ledger = _of(*batches)

    # Everything once in any order, some of it again, cut anywhere.
    again = data.draw(st.lists(st.sampled_from(rows), max_size=8)) if rows else []
    shuffled = data.draw(st.permutations(rows + again))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=5)))
    chunks = [shuffled[a:b] for a, b in pairwise([0, *cuts, len(shuffled)])]
    other = _of(*chunks)
    # Some of it as columns.
    mixed = Ledger()
    for chunk in chunks:
        if data.draw(st.booleans()):
            mixed.merge_rows(_piece(chunk))
        else:
            merge(mixed, chunk)

    assert mixed.digest() == other.digest() == ledger.digest()
    _assert_is(ledger, rows)
    _assert_is(other, rows)
    _assert_is(mixed, rows)


@given(batches)
def test_every_merge_leaves_exact_counts(rows: list[Row]) -> None:
    ledger = Ledger()
    for end, row in enumerate(rows, 1):
        merge(ledger, [row])
        _assert_is(ledger, rows[:end])


@given(batches, batches)
def test_digests_are_equal_only_for_equal_entries(a: list[Row], b: list[Row]) -> None:
    assert (_of(a).digest() == _of(b).digest()) == (model(a) == model(b))


@given(st.lists(colliding | anything, min_size=1, max_size=8), st.data())
def test_a_digest_tells_every_part_of_an_entry(rows: list[Row], data: st.DataObject) -> None:
    winners = model(rows)
    row = winners.pop(data.draw(st.sampled_from(list(winners))))
    others = list(winners.values())
    moved = row._replace(tenant="somebody else" if row.tenant != "somebody else" else None)
    later = row._replace(stamp=row.stamp + 1 if row.stamp < MAX_STAMP else 0)

    digests = {_of([*others, each]).digest() for each in (row, moved, later)}

    assert len(digests | {_of(others).digest()}) == 4


@given(strategies.owners, strategies.owners)
def test_a_tie_goes_to_the_larger_tenant_as_utf_8(a: str | None, b: str | None) -> None:
    winner = max(a, b, key=lambda each: b"" if each is None else each.encode())

    for first, second in ((a, b), (b, a)):
        ledger = _of([Row(1, 5, first), Row(1, 5, second)])
        assert ledger.get(1) == Winner(5, winner)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        (None, "\x00"),
        (None, "a"),
        ("a", "b"),
        ("a", "aa"),
        ("Z", "a"),
        ("z", "\u00e9"),
        # As UTF-16 these two would be the other way round.
        ("\uffff", "\U00010000"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_ties(smaller: str | None, larger: str | None) -> None:
    for rows in ([smaller, larger], [larger, smaller], [larger, smaller, larger]):
        ledger = _of(*([Row(7, 3, tenant)] for tenant in rows))
        assert ledger.get(7) == Winner(3, larger)
        assert dict(ledger.tenants()) == {larger: 1}


@given(
    st.lists(batches, max_size=4),
    st.integers(1, 9),
    st.lists(batches, max_size=6),
)
def test_a_copy_and_the_later_merges_give_the_same_ledger(
    before: list[list[Row]], size: int, meanwhile: list[list[Row]]
) -> None:
    source = _of(*before)
    later = iter(meanwhile)
    chunks = []
    for chunk in source.chunks(size):
        assert 1 <= len(chunk.ids) <= size
        assert len(chunk.ids) == len(chunk.stamps) == len(chunk.owners)
        chunks.append(chunk)
        merge(source, next(later, []))
    for rest in later:
        merge(source, rest)

    copy = Ledger()
    for chunk in chunks:
        copy.merge_rows(chunk)
    # What lies between the start and the end of a copy is sent as well, before or after.
    for batch in meanwhile:
        merge(copy, batch)

    assert copy.digest() == source.digest()
    _assert_is(copy, [row for batch in [*before, *meanwhile] for row in batch])


_long = st.none() | st.text("\x01a\u00e9\U00010000", min_size=1)


@given(
    st.lists(st.builds(Row, st.integers(0, 30), st.integers(0, 3), _long), max_size=30),
    st.integers(1, 40),
    st.integers(1, 400),
)
def test_pieces_are_bounded_by_rows_and_bytes(rows: list[Row], size: int, limit: int) -> None:
    ledger = _of(rows)
    found = []
    empty = len(codec.encode(copies.CopyChunk(b"", b"", b"", [], Position())))
    for chunk in ledger.chunks(size, limit):
        assert 1 <= len(chunk.ids) <= size
        assert chunk.size() <= limit or len(chunk.ids) == 1
        assert len(codec.encode(copies.CopyChunk.of(chunk.packed(), Position()))) <= 6 * chunk.size() + empty
        found += [Row(*row) for row in chunk.entries()]
    assert {row.item: row for row in found} == model(rows)
    assert len(found) == ledger.known


@given(batches, st.integers(1, 9))
def test_pieces_of_a_ledger_at_rest_are_all_of_it_once(rows: list[Row], size: int) -> None:
    ledger = _of(rows)
    listed = [Row(*row) for chunk in ledger.chunks(size) for row in chunk.entries()]

    assert len(listed) == ledger.known
    assert {row.item: row for row in listed} == model(rows)


def test_an_empty_ledger() -> None:
    ledger = Ledger()

    assert len(ledger) == ledger.known == 0
    assert ledger.get(1) is None
    assert ledger.count("a") == 0
    assert list(ledger.tenants()) == []
    assert list(ledger.chunks(10)) == []
    assert ledger.digest() == Ledger().digest()


def test_a_move_takes_from_one_tenant_and_gives_to_another() -> None:
    ledger = _of([Row(1, 1, "hello"), Row(2, 2, "publicsonar")])
    assert (ledger.count("hello"), ledger.count("publicsonar")) == (1, 1)

    merge(ledger, [Row(1, 3, "publicsonar")])

    assert (ledger.count("hello"), ledger.count("publicsonar")) == (0, 2)
    assert list(ledger.tenants()) == [("publicsonar", 2)]


def test_a_tombstone_is_a_row_but_no_item() -> None:
    ledger = _of([Row(1, 1, "a"), Row(1, 2, None), Row(2, 1, None)])

    assert (ledger.known, len(ledger)) == (2, 0)
    assert ledger.get(1) == Winner(2, None)
    assert list(ledger.tenants()) == []
    merge(ledger, [Row(1, 3, "b")])
    assert (ledger.known, len(ledger), ledger.count("b")) == (2, 1, 1)


def test_the_room_of_a_tenant_without_items_is_used_again() -> None:
    ledger = Ledger()
    for stamp in range(1_000):
        merge(ledger, [Row(1, stamp, f"tenant {stamp}")])
        assert ledger.count(f"tenant {stamp}") == 1

    assert list(ledger.tenants()) == [("tenant 999", 1)]
    assert len(ledger._tenants.names) <= 3  # noqa: SLF001 - a leak shows nowhere else


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        Ledger().merge([1, 2], [1, 2], ["a"])


class Replicas(RuleBasedStateMachine):
    """
    Three ledgers take batches of their own and each other's, in any order, also more than once.

    At every moment each holds exactly what it was given; in the end, when all were given all, they are
    equal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledgers = [Ledger() for _ in range(3)]
        self.given: list[list[Row]] = [[] for _ in range(3)]
        self.log: list[list[Row]] = []

    def _give(self, to: int, rows: list[Row]) -> None:
        merge(self.ledgers[to], rows)
        self.given[to] += rows

    @rule(to=st.integers(0, 2), rows=batches)
    def store(self, to: int, rows: list[Row]) -> None:
        self.log.append(rows)
        self._give(to, rows)

    @precondition(lambda self: self.log)
    @rule(to=st.integers(0, 2), data=st.data())
    def replicate(self, to: int, data: st.DataObject) -> None:
        self._give(to, data.draw(st.sampled_from(self.log)))

    @rule(giver=st.integers(0, 2), taker=st.integers(0, 2), size=st.integers(1, 5), rows=batches)
    def copy(self, giver: int, taker: int, size: int, rows: list[Row]) -> None:
        if giver == taker:
            return
        self.log.append(rows)
        known = list(self.given[giver])
        # One more entry reaches the giver after each chunk; what is left, at the end.
        left = list(rows)
        for chunk in self.ledgers[giver].chunks(size):
            self.ledgers[taker].merge_rows(chunk)
            self._give(giver, left[:1])
            del left[:1]
        self._give(giver, left)
        self.given[taker] += known
        self._give(taker, rows)

    @invariant()
    def counts_are_a_recount(self) -> None:
        for ledger, rows in zip(self.ledgers, self.given, strict=True):
            _assert_is(ledger, rows)

    def teardown(self) -> None:
        for to in range(3):
            for rows in reversed(self.log):
                self._give(to, rows)
            _assert_is(self.ledgers[to], [row for rows in self.log for row in rows])
        assert len({ledger.digest() for ledger in self.ledgers}) == 1


Replicas.TestCase.settings = settings(max_examples=30, stateful_step_count=25)
TestReplicas = Replicas.TestCase

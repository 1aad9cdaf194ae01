import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import LostRun, NodePosition, Position, join_all
from dcounter.protocol.secrets import Secrets
from dcounter.protocol.token import CursorSeal, TokenSeal
from tests.support import strategies

# Few nodes, runs and numbers: positions that have nothing to do with each other prove nothing.
_NODES = range(3)
_RUNS = range(6)
_NUMBERS = range(1, 5)

nodes = st.sampled_from(_NODES)
runs = st.sampled_from(_RUNS)
numbers = st.sampled_from(_NUMBERS)

# Every position that can be sent, also one that lists runs below its fold.
small = st.builds(
    Position,
    st.dictionaries(
        nodes,
        st.builds(NodePosition, st.integers(0, 5), st.dictionaries(runs, numbers, max_size=4)),
        max_size=3,
    ),
)


def _canonical(position: Position) -> Position:
    """
    The same without what says nothing: runs below the fold, nodes of which nothing is had.
    """
    found = {}
    for node, part in position.nodes.items():
        left = {run: number for run, number in part.runs.items() if run >= part.folded}
        if part.folded or left:
            found[node] = NodePosition(part.folded, left)
    return Position(found)


canonical = small.map(_canonical)


def _had(position: Position) -> set[tuple[int, int, int]]:
    """
    The model: a position is nothing but the set of batches it stands for.

    One number more than any run lists: it is had only where the run is folded.
    """
    return {
        (node, run, number)
        for node in _NODES
        for run in _RUNS
        for number in [*_NUMBERS, max(_NUMBERS) + 1]
        if number <= position.number(node, run)
    }


class TestLattice:
    @given(canonical, canonical)
    def test_join_is_commutative(self, a: Position, b: Position) -> None:
        assert a.join(b) == b.join(a)

    @given(canonical, canonical, canonical)
    def test_join_is_associative(self, a: Position, b: Position, c: Position) -> None:
        assert a.join(b).join(c) == a.join(b.join(c)) == join_all([c, a, b])

    @given(canonical)
    def test_join_is_idempotent(self, a: Position) -> None:
        copy = msgspec.json.decode(msgspec.json.encode(a), type=Position)
        assert a.join(a) == a.join(copy) == a
        assert a.join(Position()) == Position().join(a) == a
        assert all(part.join(part) is part for part in a.nodes.values())

    @given(small, small)
    def test_join_has_what_either_has(self, a: Position, b: Position) -> None:
        assert _had(a.join(b)) == _had(a) | _had(b)

    @given(canonical, canonical)
    def test_join_stays_canonical(self, a: Position, b: Position) -> None:
        assert _canonical(a.join(b)) == a.join(b)

    @given(small, small)
    def test_join_changes_neither(self, a: Position, b: Position) -> None:
        before = msgspec.json.encode([a, b])
        a.join(b)
        assert msgspec.json.encode([a, b]) == before


class TestCovers:
    @given(small, small)
    def test_agrees_with_the_model(self, a: Position, b: Position) -> None:
        assert a.covers(b) == (_had(a) >= _had(b))

    @given(canonical, canonical)
    def test_is_the_order_of_the_join(self, a: Position, b: Position) -> None:
        assert a.covers(b) == (a.join(b) == a)
        assert a.join(b).covers(a)
        assert a.join(b).covers(b)

    @given(canonical, canonical)
    def test_is_antisymmetric(self, a: Position, b: Position) -> None:
        assert (a.covers(b) and b.covers(a)) == (a == b)

    @given(small, small, small)
    def test_is_reflexive_and_transitive(self, a: Position, b: Position, c: Position) -> None:
        assert a.covers(a)
        upper = a.join(b).join(c)
        assert upper.covers(a.join(b))
        assert a.join(b).covers(a)
        assert upper.covers(a)

    @pytest.mark.parametrize(
        ("mine", "other", "covers"),
        [
            (NodePosition(), NodePosition(), True),
            (NodePosition(), NodePosition(0, {7: 1}), False),
            (NodePosition(0, {7: 1}), NodePosition(0, {7: 1}), True),
            (NodePosition(0, {7: 1}), NodePosition(0, {7: 2}), False),
            (NodePosition(0, {7: 9}), NodePosition(0, {8: 1}), False),
            (NodePosition(8), NodePosition(0, {7: 2}), True),
            (NodePosition(7), NodePosition(0, {7: 2}), False),
            (NodePosition(0, {7: MAX_STAMP}), NodePosition(8), False),
            (NodePosition(8, {9: 3}), NodePosition(8, {9: 2}), True),
        ],
    )
    def test_one_node(self, mine: NodePosition, other: NodePosition, covers: bool) -> None:
        assert mine.covers(other) is covers
        assert Position({3: mine}).covers(Position({3: other})) is covers

    def test_another_nodes_log_does_not_help(self) -> None:
        assert not Position({0: NodePosition(9)}).covers(Position({1: NodePosition(0, {1: 1})}))


class TestMoving:
    @given(small, nodes, runs, numbers)
    def test_advance_adds_that_run_up_to_there(self, a: Position, node: int, run: int, number: int) -> None:
        moved = a.advance(node, run, number)

        assert _had(moved) == _had(a) | {(node, run, n) for n in range(1, number + 1)}
        assert moved.covers(a)

    @given(canonical, nodes, runs, numbers)
    def test_advance_is_a_join_and_stays_canonical(
        self, a: Position, node: int, run: int, number: int
    ) -> None:
        step = Position({node: NodePosition(0, {run: number})})

        assert a.advance(node, run, number) == a.join(step)
        assert _canonical(a.advance(node, run, number)) == a.advance(node, run, number)

    @given(small, small, nodes, runs, numbers)
    def test_advance_is_monotone(self, a: Position, b: Position, node: int, run: int, number: int) -> None:
        assert a.join(b).advance(node, run, number).covers(a.advance(node, run, number))

    @given(small, nodes, runs)
    def test_advance_to_nothing_is_nothing(self, a: Position, node: int, run: int) -> None:
        assert a.advance(node, run, 0) is a
        assert a.advance(node, run, a.number(node, run)) is a

    @given(small, nodes, runs)
    def test_fold_adds_the_runs_below(self, a: Position, node: int, run: int) -> None:
        folded = a.fold(node, run)
        below = {(node, each, number) for each in range(run) for number in range(1, max(_NUMBERS) + 2)}

        assert _had(folded) == _had(a) | below
        assert folded.covers(a)

    @given(small, small, nodes, runs)
    def test_fold_is_monotone(self, a: Position, b: Position, node: int, run: int) -> None:
        assert a.join(b).fold(node, run).covers(a.fold(node, run))

    @given(canonical, nodes, st.integers(1, 5))
    def test_fold_no_longer_lists_what_it_folds(self, a: Position, node: int, run: int) -> None:
        folded = a.fold(node, run)

        assert _canonical(folded) == folded
        assert all(each >= run for each in folded.of(node).runs)


class TestWithout:
    @given(small, nodes, runs, st.integers(0, 5))
    def test_takes_away_what_is_beyond_unless_it_is_folded(
        self, a: Position, node: int, run: int, beyond: int
    ) -> None:
        left = a.without(node, run, beyond)

        gone = {(node, run, number) for number in range(beyond + 1, max(_NUMBERS) + 2)}
        assert _had(left) == (_had(a) if run < a.of(node).folded else _had(a) - gone)
        assert a.covers(left)

    def test_what_lists_nothing_lists_nothing_afterwards(self) -> None:
        assert list(Position().without(1, 2, 3).entries()) == []
        position = Position({1: NodePosition(0, {2: 9, 3: 1})})
        assert list(position.without(1, 2, 0).entries()) == [(1, 3, 1)]


class TestMissing:
    @given(small, small)
    def test_is_empty_if_and_only_if_all_is_covered(self, a: Position, b: Position) -> None:
        missing = a.missing(b)

        assert (not missing) == a.covers(b)
        assert all(count >= 1 for count in missing.values())
        assert {node for node in _NODES if not a.of(node).covers(b.of(node))} == set(missing)

    @given(small, small)
    def test_counts_the_batches(self, a: Position, b: Position) -> None:
        # Where b folds more than a, nobody knows how many batches that is.
        unfolded = Position({n: NodePosition(0, part.runs) for n, part in b.nodes.items()})
        behind: dict[int, int] = {}
        for node, _, _ in _had(unfolded) - _had(a):
            behind[node] = behind.get(node, 0) + 1

        assert a.missing(unfolded) == behind

    def test_a_fold_alone_counts_as_one(self) -> None:
        assert Position().missing(Position({4: NodePosition(9)})) == {4: 1}


class TestShown:
    @given(canonical)
    def test_entries_are_the_runs(self, a: Position) -> None:
        entries = list(a.entries())

        assert len(entries) == sum(len(part.runs) for part in a.nodes.values())
        assert all(a.number(node, run) == number for node, run, number in entries)

    def test_keys_are_text_and_in_order(self) -> None:
        position = Position({10: NodePosition(0, {5: 1}), 9: NodePosition(3, {12: 2, 4: 7})})

        shown = position.shown()

        assert shown == {"9": {"4": 7, "12": 2}, "10": {"5": 1}}
        assert [list(shown), list(shown["9"])] == [["9", "10"], ["4", "12"]]


@pytest.mark.parametrize(
    ("node", "run", "number", "takes"),
    [
        (1, 10, 1, False),
        (1, 10, 4, False),
        (1, 10, 5, True),
        (1, 9, 5, False),
        (1, 11, 1, True),
        (1, 19, 1, True),
        (1, 20, 1, False),
        (1, 21, 1, False),
        (0, 10, 5, False),
        (2, 15, 1, False),
    ],
)
def test_what_a_lost_run_takes(node: int, run: int, number: int, takes: bool) -> None:
    assert LostRun(node=1, run=10, last=4, until=20).takes(node, run, number) is takes


def _altered(token: str) -> Iterator[str]:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= \n\u00e9\ud800"
    for place in range(len(token) + 1):
        yield token[:place] + token[place + 1 :]
        for character in alphabet:
            yield token[:place] + character + token[place:]
            yield token[:place] + character + token[place + 1 :]


class TestTokenSeal:
    SEAL = TokenSeal(Secrets(b"the secret of this cluster"), "cluster")
    POSITION = Position({0: NodePosition(0, {5: 3}), 7: NodePosition(4)})

    @given(strategies.any_positions, strategies.stamps)
    def test_round_trip(self, position: Position, stamp: int) -> None:
        token = self.SEAL.seal(position, stamp)

        assert self.SEAL.open(token) == (position, stamp)
        # Another coordinator of the cluster.
        other = TokenSeal(Secrets(b"the secret of this cluster"), "cluster")
        assert other.open(token) == (position, stamp)
        assert other.seal(position, stamp) == token

    @given(strategies.any_positions, strategies.stamps)
    def test_fits_a_query_string_as_it_is(self, position: Position, stamp: int) -> None:
        token = self.SEAL.seal(position, stamp)

        assert token.isascii()
        assert token.replace("-", "").replace("_", "").isalnum()

    def test_the_latest_is_kept_only_for_the_same_position_and_stamp(self) -> None:
        seal = TokenSeal(Secrets(b"s"), "c")
        other = Position({0: NodePosition(0, {5: 4})})

        assert seal.seal(self.POSITION, 1) is seal.seal(self.POSITION, 1)
        assert seal.open(seal.seal(self.POSITION, 2)) == (self.POSITION, 2)
        assert seal.open(seal.seal(other, 2)) == (other, 2)

    # Of one, two and three bytes beyond a multiple of three: base64 ends differently.
    @pytest.mark.parametrize("stamp", [1, 200, 70_000])
    def test_every_single_alteration_is_refused(self, stamp: int) -> None:
        token = self.SEAL.seal(self.POSITION, stamp)

        for text in set(_altered(token)) - {token}:
            with pytest.raises(ValueError, match=r".") as refused:
                self.SEAL.open(text)
            assert isinstance(refused.value, ValueError)

    @given(st.text() | st.text("AZaz09-_=") | st.text(st.characters(), max_size=100))
    def test_arbitrary_text_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            self.SEAL.open(text)

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_are_refused(self, raw: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            self.SEAL.open(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())

    @pytest.mark.parametrize(
        ("secret", "cluster"),
        [
            (b"another secret", "cluster"),
            (b"the secret of this cluster", "another cluster"),
            (b"the secret of this cluster", ""),
            (b"", "cluster"),
        ],
    )
    def test_another_cluster_or_secret_is_refused(self, secret: bytes, cluster: str) -> None:
        token = TokenSeal(Secrets(secret), cluster).seal(self.POSITION, 1)

        with pytest.raises(ValueError, match="not a token of this cluster"):
            self.SEAL.open(token)

    @pytest.mark.parametrize(
        "packed",
        [
            b"",
            b"\xc1",
            msgspec.msgpack.encode((1,)),
            msgspec.msgpack.encode((-1, Position())),
            msgspec.msgpack.encode((2**63, Position())),
            msgspec.msgpack.encode((1, {"nodes": {0: {"runs": {1: 0}}}})),
            b"\x91" * 10_000,
        ],
    )
    def test_what_is_sealed_but_not_a_position_is_refused(self, packed: bytes) -> None:
        code = self.SEAL._codes.make(packed)  # noqa: SLF001 - only another version could make such
        token = base64.urlsafe_b64encode(code + packed).rstrip(b"=").decode()

        with pytest.raises(ValueError, match="another version"):
            self.SEAL.open(token)

    def test_secrets_of_any_length(self) -> None:
        for size in (0, 1, 64, 65, 10_000):
            seal = TokenSeal(Secrets(hashlib.sha256(b"x").digest() * (size // 32 + 1)), "c" * size)
            assert seal.open(seal.seal(self.POSITION, 3)) == (self.POSITION, 3)

    def test_tokens_and_cursors_outlive_a_change_of_the_secret(self) -> None:
        secrets = Secrets(b"old")
        seal = TokenSeal(secrets, "cluster")
        token, cursor = seal.seal(self.POSITION, 3), seal.cursors.seal(["list"], 5)
        for accepted in ([b"old", b"new"], [b"new", b"old"]):
            secrets.replace(accepted)
            assert seal.accepted_secrets == 2
            assert seal.open(token) == (self.POSITION, 3)
            assert seal.cursors.open(["list"], cursor, int) == 5
        # Also that of the same position is sealed anew, or it would end with the old secret.
        later, after = seal.seal(self.POSITION, 3), seal.cursors.seal(["list"], 5)
        secrets.replace([b"new"])
        assert seal.open(later) == (self.POSITION, 3)
        assert seal.cursors.open(["list"], after, int) == 5
        with pytest.raises(ValueError, match="not a token"):
            seal.open(token)
        with pytest.raises(ValueError, match="not a cursor"):
            seal.cursors.open(["list"], cursor, int)
        # Those that other processes seal meanwhile are read as well.
        assert TokenSeal(Secrets(b"older", b"new"), "cluster").open(later) == (self.POSITION, 3)
        # This process knows which ones it made, and goes on with them.
        assert seal.open(seal.join(token, later)) == (self.POSITION, 3)

    @given(strategies.any_positions, strategies.any_positions, strategies.stamps, strategies.stamps)
    def test_a_token_of_what_two_cover(
        self, first: Position, second: Position, stamp: int, other: int
    ) -> None:
        token = self.SEAL.join(self.SEAL.seal(first, stamp), self.SEAL.seal(second, other))
        assert self.SEAL.open(token) == (first.join(second), max(stamp, other))


class TestCursor:
    SEAL = CursorSeal(Secrets(b"the secret of this cluster"), "cluster")

    @given(st.lists(st.text(), max_size=3), strategies.item_ids | st.tuples(st.text(), st.integers(0, 2**62)))
    def test_is_read_by_its_cluster(self, words: list[str], place: Any) -> None:
        cursor = self.SEAL.seal(words, place)
        other = CursorSeal(Secrets(b"the secret of this cluster"), "cluster")
        kind: Any = int if isinstance(place, int) else tuple[str, int]
        assert other.open(words, cursor, kind) == place
        assert re.fullmatch("[A-Za-z0-9_-]+", cursor)

    def test_is_of_one_list_of_one_cluster(self) -> None:
        cursor = self.SEAL.seal(["tenants", "a"], 5)
        assert self.SEAL.open(["tenants", "a"], cursor, int) == 5
        for words in (["tenants", "b"], ["tenants"], ["tenantsa"], ["tenants", "a", ""]):
            with pytest.raises(ValueError, match="not a cursor of this list"):
                self.SEAL.open(words, cursor, int)
        for seal in (
            CursorSeal(Secrets(b"another"), "cluster"),
            CursorSeal(Secrets(b"the secret of this cluster"), "c"),
        ):
            with pytest.raises(ValueError, match="not a cursor of this list"):
                seal.open(["tenants", "a"], cursor, int)
        with pytest.raises(ValueError, match="a cursor of another version"):
            self.SEAL.open(["tenants", "a"], cursor, str)

    def test_is_no_position(self) -> None:
        token = TokenSeal(Secrets(b"the secret of this cluster"), "cluster")
        with pytest.raises(ValueError, match="not a"):
            token.open(self.SEAL.seal([], 5))
        with pytest.raises(ValueError, match="not a"):
            self.SEAL.open([], token.seal(Position(), 1), int)

    @given(
        st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
            self.SEAL.open(["tenants"], text, int)

"""
Tokens: found by their header, compared, and no longer accepted when the file says so.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.http.auth import ANYONE, OPERATOR, Principal, Token, Tokens, hash_token

_READER = Principal("reader", frozenset({"read"}))


def token(value: str, principal: Principal = _READER, *, expires: int | None = None) -> Token:
    return Token(hash_token(value.encode()), principal, expires)


class TestTokens:
    def test_are_found_by_their_header(self) -> None:
        one, two = token("dct_one"), token("dct_two", Principal("writer", frozenset({"write"})))
        tokens = Tokens([one, two], now=lambda: 0, seconds=lambda: 0.0)
        # The second time it is remembered.
        for _ in range(2):
            assert tokens.find(b"Bearer dct_one") is one
            assert tokens.find(b"bearer  dct_two") is two

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"Bearer",
            b"Bearer ",
            b"Bearer dct_",
            b"Bearer dct_one ",
            b"Basic dct_one",
            b"dct_one",
            b"\xff",
        ],
    )
    def test_what_is_none_is_not_found(self, header: bytes) -> None:
        assert Tokens([token("dct_one")], now=lambda: 0, seconds=lambda: 0.0).find(header) is None

    def test_a_hash_that_begins_alike_is_another_one(self) -> None:
        right = token("dct_one")
        alike = Token(right.digest[:16] + bytes(16), Principal("alike", frozenset({"admin"})))
        assert Tokens([alike], now=lambda: 0, seconds=lambda: 0.0).find(b"Bearer dct_one") is None
        assert Tokens([alike, right], now=lambda: 0, seconds=lambda: 0.0).find(b"Bearer dct_one") is right

    def test_a_hash_is_no_token(self) -> None:
        one = token("dct_one")
        assert (
            Tokens([one], now=lambda: 0, seconds=lambda: 0.0).find(b"Bearer " + one.digest.hex().encode())
            is None
        )

    def test_those_that_are_replaced_are_not_remembered(self) -> None:
        tokens = Tokens([token("dct_one")], now=lambda: 0, seconds=lambda: 0.0)
        assert tokens.find(b"Bearer dct_one") is not None
        tokens.replace([token("dct_two")])
        assert tokens.find(b"Bearer dct_one") is None
        assert tokens.find(b"Bearer dct_two") is not None

    def test_end_at_their_time(self) -> None:
        now = 41
        tokens = Tokens(
            [token("dct_one", expires=42), token("dct_two")], now=lambda: now, seconds=lambda: 0.0
        )
        one, two = tokens.find(b"Bearer dct_one"), tokens.find(b"Bearer dct_two")
        assert one is not None
        assert two is not None
        assert not tokens.is_expired(one)
        now = 42
        assert tokens.is_expired(one)
        assert not tokens.is_expired(two)

    def test_spellings_do_not_fill_the_memory(self) -> None:
        tokens = Tokens([token("dct_one")], now=lambda: 0, seconds=lambda: 0.0)
        for blanks in range(1, 3_000):
            assert tokens.find(b"Bearer" + b" " * blanks + b"dct_one") is not None
            assert tokens.find(b"Bearer wrong-%d" % blanks) is None
        assert len(tokens._known) <= 1024  # noqa: SLF001


class TestPrincipals:
    @given(st.text(), st.lists(st.text(min_size=1), min_size=1))
    def test_read_what_begins_with_one_of_their_prefixes(self, tenant: str, prefixes: list[str]) -> None:
        bound = Principal("bound", frozenset({"read"}), tuple(prefixes))
        assert bound.may_read(tenant) is any(tenant.startswith(each) for each in prefixes)
        assert bound.may_read(prefixes[0] + tenant)

    def test_read_everything_without(self) -> None:
        assert all(each.may_read(tenant) for each in (_READER, ANYONE, OPERATOR) for tenant in ("", "a/b"))

    def test_the_operator_does_not_store(self) -> None:
        assert OPERATOR.scopes == {"admin", "read"}
        assert ANYONE.scopes == set()

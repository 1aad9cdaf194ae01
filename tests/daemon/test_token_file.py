"""
Tokens are made, written to the file of a daemon, and taken out of it.
"""

from pathlib import Path

import pytest

from dcounter.daemon.token_file import (
    UnknownToken,
    add_token,
    describe_token,
    make_token,
    read_tokens,
    revoke_token,
)
from dcounter.daemon.tokens import parse_tokens
from dcounter.http.auth import Principal, hash_token
from dcounter.http.rates import Rate

ONE = f'[[token]]\nname = "billing"\nsha256 = "{"ab" * 32}"\nscopes = ["read"]\n'


def described(name: str) -> str:
    return describe_token(f"dct_{name}", name, ["read"])


def test_a_token_has_256_bits_that_a_url_can_hold() -> None:
    assert make_token(bytes) == "dct_" + "A" * 43
    assert make_token(lambda size: b"\xff" * size) == "dct_" + "_" * 42 + "8"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x7fb", "a\u2028b", "é"])
def test_what_is_written_can_be_read(name: str) -> None:
    text = describe_token("dct_x", "n", ["read"], [name], expires="2027-01-01T00:00:00Z")
    [token] = parse_tokens(text)
    assert token.principal.prefixes == (name,)
    assert token.digest == hash_token(b"dct_x")
    assert token.expires == 1_798_761_600 * 10**9


def test_tokens_are_added_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(str(path), describe_token("dct_1", "one", ["read"], ["acme/"]))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("# Jo's\n" + path.read_text().rstrip("\n"))
    add_token(str(path), describe_token("dct_2", "two", ["read", "write"], rate="5", burst="9"))
    assert path.read_text().startswith("# Jo's\n[[token]]\n")
    one, two = read_tokens(str(path))
    assert (one.digest, one.principal) == (
        hash_token(b"dct_1"),
        Principal("one", frozenset({"read"}), ("acme/",)),
    )
    assert two.principal == Principal("two", frozenset({"read", "write"}), (), Rate(5.0, 9))


@pytest.mark.parametrize(
    "text",
    [
        describe_token("dct_x", "billing", ["read"]),
        describe_token("dct_x", "a b", ["read"]),
        describe_token("dct_x", "b", ["write"], ["a"]),
        describe_token("dct_x", "b", ["read"], expires="tomorrow"),
        describe_token("dct_x", "b", ["read"], expires="2027-01-01T00:00:00Z\ncolour = 1"),
    ],
)
def test_what_cannot_be_used_changes_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(ONE)
    with pytest.raises(ValueError, match=r"."):
        add_token(str(path), text)
    assert path.read_text() == ONE


def test_a_token_is_revoked_with_its_comment_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    text = {
        "head": "# All of it is Jo's.\n\n",
        "a": "# The first one:\n# ask Jo.\n" + described("a"),
        "b": "  # The second one.\n  [[ token ]] # here\n" + described("b").partition("\n")[2],
        "c": described("c") + "\n# The end.\n",
    }
    path.write_text("".join(text.values()))
    path.chmod(0o640)
    revoke_token(str(path), "b")
    assert path.read_text() == text["head"] + text["a"] + text["c"]
    revoke_token(str(path), "a")
    assert path.read_text() == text["head"] + text["c"]
    assert path.stat().st_mode & 0o777 == 0o640
    revoke_token(str(path), "c")
    assert read_tokens(str(path)) == []
    with pytest.raises(UnknownToken, match="there is no token 'c'"):
        revoke_token(str(path), "c")
    assert [each.name for each in tmp_path.iterdir()] == ["tokens"]


def test_a_file_that_is_written_in_another_way_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    text = f'token = [{{name = "one", sha256 = "{"ab" * 32}", scopes = ["read"]}}]\n'
    path.write_text(text)
    with pytest.raises(ValueError, match="by hand"):
        revoke_token(str(path), "one")
    assert path.read_text() == text

"""
The operator's token: made once, kept from others, and compared.
"""

import os
from pathlib import Path

import pytest

from dcounter.daemon.operator_token import open_operator_token
from dcounter.errors import ConfigurationError
from dcounter.http.auth import OperatorToken


def count_up(size: int) -> bytes:
    return bytes(range(size))


def test_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "operator-token"
    token = open_operator_token(str(file), count_up)
    assert token == OperatorToken(str(file), bytes(range(32)).hex().encode())
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == token.value + b"\n"
    assert open_operator_token(str(file), os.urandom) == token
    assert os.listdir(tmp_path) == ["operator-token"]


def test_no_two_are_the_same(tmp_path: Path) -> None:
    tokens = {open_operator_token(str(tmp_path / name), os.urandom).value for name in "ab"}
    assert len(tokens) == 2


def test_a_file_that_another_process_makes_meanwhile_counts(tmp_path: Path) -> None:
    file = tmp_path / "token"

    def slow(size: int) -> bytes:
        if size == 32:
            file.write_text("x" * 16)
        return count_up(size)

    assert open_operator_token(str(file), slow).value == b"x" * 16
    assert os.listdir(tmp_path) == ["token"]


def test_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 12_345, 23_456)
    open_operator_token(str(tmp_path / "token"), os.urandom)
    made, directory = (tmp_path / "token").stat(), tmp_path.stat()
    assert (made.st_uid, made.st_gid) == (directory.st_uid, directory.st_gid)


def test_the_path_is_one_that_can_be_used_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_operator_token("token", os.urandom).path == str(tmp_path / "token")


def test_what_is_there_may_be_given_by_the_operator(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("  a-token-of-one's-own \n")
    assert open_operator_token(str(file), os.urandom).value == b"a-token-of-one's-own"


@pytest.mark.parametrize(
    "content", ["", "\n", "short", "x" * 15, "x" * 257, "two words of some length", "é" * 16]
)
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"{file} does not hold an operator's token"):
        open_operator_token(str(file), os.urandom)
    assert file.read_text() == content


def test_what_cannot_be_read_or_made_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "directory").mkdir()
    for name, why in [
        ("none/token", "No such file or directory"),
        ("directory", "Is a directory"),
        ("dangling", "No such file or directory"),
    ]:
        path = tmp_path / name
        with pytest.raises(ConfigurationError) as caught:
            open_operator_token(str(path), os.urandom)
        assert str(caught.value) == f"the operator's token cannot be read or made: {why}: {path}"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "directory"]


def test_a_token_for_all_to_read_is_complained_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    open_operator_token(str(file), os.urandom)
    assert caplog.text == ""
    file.chmod(0o640)
    open_operator_token(str(file), os.urandom)
    assert f"other users can read the operator's token in {file}" in caplog.text


TOKEN = OperatorToken("/run/token", b"a-token-of-one's-own")


@pytest.mark.parametrize("header", [b"Bearer a-token-of-one's-own", b"bearer   a-token-of-one's-own"])
def test_a_header_that_holds_the_token_matches(header: bytes) -> None:
    assert TOKEN.matches(header)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"a-token-of-one's-own",
        b"Basic a-token-of-one's-own",
        b"Bearer a-token-of-one's-ow",
        b"Bearer a-token-of-one's-own ",
        b"Bearer A-token-of-one's-own",
        b"Bearer \xe9",
    ],
)
def test_other_headers_do_not_match(header: bytes) -> None:
    assert not TOKEN.matches(header)


def test_its_text_does_not_show_it() -> None:
    assert "own" not in repr(TOKEN)

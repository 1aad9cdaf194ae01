"""
The file of tokens: what it may hold, how it is read again, and how a token gets into it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dcounter.daemon.tokens import TokensFile, describe_token, main, make_token, parse_tokens
from dcounter.errors import ConfigurationError
from dcounter.http.auth import Principal, Scope, Token, hash_token
from dcounter.http.rates import Rate

HASH = "ab" * 32
OTHER = "cd" * 32
ONE = f'[[token]]\nname = "billing"\nsha256 = "{HASH}"\nscopes = ["read"]\n'


class TestParsing:
    def test_a_token_with_all_there_is(self) -> None:
        text = f"""
            # The dashboard of Acme, ask Jo.
            [[token]]
            name = "acme@dashboard-1.x_"
            sha256 = "{HASH}"
            scopes = ["read"]
            prefixes = ["acme/", "Grüße "]
            expires = 2027-01-31T01:00:00.5+01:00
            rate = 100
            burst = 1

            [[token]]
            name = "b"
            sha256 = "{OTHER}"
            scopes = ["write", "admin"]
            rate = 2.5
        """
        acme = Principal("acme@dashboard-1.x_", frozenset({"read"}), ("acme/", "Grüße "), Rate(100.0, 1))
        everything: frozenset[Scope] = frozenset({"read", "write", "admin"})
        assert parse_tokens(text) == [
            Token(bytes.fromhex(HASH), acme, 1_801_353_600_500_000_000),
            # Those that may remove nodes may look at them.
            Token(bytes.fromhex(OTHER), Principal("b", everything, (), Rate(2.5, 3))),
        ]

    def test_none_is_allowed(self) -> None:
        assert parse_tokens("# nobody yet\n") == []

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[[token]", "line 1"),
            ("[[tokens]]", "unknown field `tokens`"),
            ("[[token]]", "missing required field `name`"),
            (ONE.replace("name =", "nmae ="), r"unknown field `nmae`|missing"),
            (ONE + 'prefix = ["acme/"]\n', r"unknown field `prefix` - at `\$.token\[0\]`"),
            (ONE.replace("billing", "a b"), r"matching regex .* at `\$.token\[0\].name`"),
            (ONE.replace("billing", "a\\n"), r"matching regex .* at `\$.token\[0\].name`"),
            (ONE.replace("billing", ""), r"`\$.token\[0\].name`"),
            (ONE.replace(HASH, HASH.upper()), r"`\$.token\[0\].sha256`"),
            (ONE.replace(HASH, HASH[1:]), r"`\$.token\[0\].sha256`"),
            (ONE.replace(HASH, "dct_" + HASH), r"`\$.token\[0\].sha256`"),
            (ONE.replace('["read"]', "[]"), r"`\$.token\[0\].scopes`"),
            (ONE.replace('"read"', '"all"'), r"`\$.token\[0\].scopes\[0\]`"),
            (ONE + "prefixes = []\n", r"`\$.token\[0\].prefixes`"),
            # Every name begins with an empty text.
            (ONE + 'prefixes = [""]\n', r"`\$.token\[0\].prefixes\[0\]`"),
            (ONE + "expires = 2027-01-31T00:00:00\n", r"timezone.* `\$.token\[0\].expires`"),
            (ONE + "expires = 2027-01-31\n", r"`\$.token\[0\].expires`"),
            (ONE + "burst = 5\n", "'billing' has a burst without a rate"),
            (ONE + "rate = 0\n", r"`\$.token\[0\].rate`"),
            (ONE + "rate = nan\n", r"`\$.token\[0\].rate`"),
            (ONE + "rate = inf\n", r"`\$.token\[0\].rate`"),
            (ONE + "rate = 5\nburst = 0\n", r"`\$.token\[0\].burst`"),
            (ONE + ONE.replace(HASH, OTHER), "'billing' has the name or the sha256 of another one"),
            (ONE + ONE.replace("billing", "b"), "'b' has the name or the sha256 of another one"),
            (
                ONE.replace('["read"]', '["read", "write"]') + 'prefixes = ["acme/"]\n',
                "'billing' has prefixes, so its scopes can only be",
            ),
            (ONE.replace('["read"]', '["admin"]') + 'prefixes = ["acme/"]\n', "scopes can only be"),
        ],
    )
    def test_what_is_wrong_is_refused(self, text: str, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            parse_tokens(text)


class TestFile:
    def test_is_read_again(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "tokens"
        token = "dct_" + "x" * 43
        path.write_text(describe_token(token, "one", ["read"]))
        file = TokensFile(str(path), now=lambda: 0, seconds=lambda: 0.0)
        header = f"Bearer {token}".encode()
        assert file.tokens.find(header) is not None
        for wrong in (b"[[token]]\n", b"\xff"):
            path.write_bytes(wrong)
            file.reload()
            assert file.tokens.find(header) is not None
            assert f"{path} cannot be understood" in caplog.text
            assert "the tokens that were read before stay in force" in caplog.text
            caplog.clear()
        path.unlink()
        file.reload()
        assert file.tokens.find(header) is not None
        assert f"cannot be read: No such file or directory: {path}" in caplog.text
        path.write_text("")
        with caplog.at_level("INFO"):
            file.reload()
        assert file.tokens.find(header) is None
        assert f"0 tokens are accepted, of {path}" in caplog.text
        assert token not in caplog.text

    def test_that_cannot_be_used_ends_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="--tokens-file: the file cannot be read: No such file"):
            TokensFile(str(tmp_path / "none"), now=lambda: 0, seconds=lambda: 0.0)
        with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
            TokensFile(str(tmp_path), now=lambda: 0, seconds=lambda: 0.0)

    def test_is_never_read_in_part(self, tmp_path: Path) -> None:
        # Without its last line the token could read all.
        comment = "#" * (16 * 2**20 - len(ONE) - 1) + "\n"
        (tmp_path / "tokens").write_text(comment + ONE)
        file = TokensFile(str(tmp_path / "tokens"), now=lambda: 0, seconds=lambda: 0.0)
        assert file.tokens is not None
        (tmp_path / "tokens").write_text(comment + ONE + 'prefixes = ["acme/"]\n')
        with pytest.raises(ConfigurationError, match="more than 16777216 bytes"):
            TokensFile(str(tmp_path / "tokens"), now=lambda: 0, seconds=lambda: 0.0)

    def test_is_found_wherever_twistd_goes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "tokens").write_text("")
        file = TokensFile("tokens", now=lambda: 0, seconds=lambda: 0.0)
        (tmp_path / "tokens").write_text(describe_token("dct_x", "one", ["read"]))
        monkeypatch.chdir("/")
        file.reload()
        assert file.tokens.find(b"Bearer dct_x") is not None

    def test_for_all_to_write_is_complained_of(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "tokens"
        path.touch()
        path.chmod(0o644)
        TokensFile(str(path), now=lambda: 0, seconds=lambda: 0.0)
        assert "can write" not in caplog.text
        path.chmod(0o664)
        TokensFile(str(path), now=lambda: 0, seconds=lambda: 0.0)
        assert f"other users can write to {path}" in caplog.text


class TestMaking:
    def test_has_256_bits_that_a_url_can_hold(self) -> None:
        assert make_token(bytes) == "dct_" + "A" * 43
        assert make_token(lambda size: b"\xff" * size) == "dct_" + "_" * 42 + "8"

    @pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x7fb", "a\u2028b", "é"])
    def test_what_is_written_can_be_read(self, name: str) -> None:
        described = describe_token("dct_x", "n", ["read"], [name], expires="2027-01-01T00:00:00Z")
        [token] = parse_tokens(described)
        assert token.principal.prefixes == (name,)
        assert token.digest == hash_token(b"dct_x")
        assert token.expires == 1_798_761_600 * 10**9

    def test_adds_to_the_file_and_shows_the_token_once(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "tokens"
        assert main([str(path), "one", "--scope=read", "--prefix=acme/"], randbytes=bytes) == 0
        shown = capsys.readouterr().out
        assert shown == "dct_" + "A" * 43 + "\n"
        assert path.stat().st_mode & 0o777 == 0o600
        path.write_text("# Jo's\n" + path.read_text().rstrip("\n"))
        assert main([str(path), "two", "--scope=read", "--scope=write", "--rate=5", "--burst=9"]) == 0
        assert path.read_text().startswith("# Jo's\n[[token]]\n")
        one, two = parse_tokens(path.read_text())
        assert one == Token(
            hash_token(shown.strip().encode()), Principal("one", frozenset({"read"}), ("acme/",))
        )
        assert two.principal == Principal("two", frozenset({"read", "write"}), (), Rate(5.0, 9))
        assert shown.strip() not in path.read_text()

    @pytest.mark.parametrize(
        "more",
        [
            ["billing", "--scope=read"],
            ["a b", "--scope=read"],
            ["b", "--scope=write", "--prefix=a"],
            ["b", "--scope=read", "--expires=tomorrow"],
            ["b", "--scope=read", "--expires=2027-01-01T00:00:00Z\ncolour = 1"],
        ],
    )
    def test_what_cannot_be_used_changes_nothing(
        self, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "tokens"
        path.write_text(ONE)
        assert main([str(path), *more]) == 1
        assert path.read_text() == ONE
        said = capsys.readouterr()
        assert said.out == ""
        assert f"{path} was not changed: " in said.err

    def test_a_file_that_cannot_be_written(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(tmp_path / "none" / "tokens"), "one", "--scope=read"]) == 1
        assert "No such file or directory" in capsys.readouterr().err

    def test_is_a_command(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "dcounter.daemon.tokens", "tokens", "one", "--scope", "read"]
        run = subprocess.run(
            command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=True
        )
        [token] = parse_tokens((tmp_path / "tokens").read_text())
        assert token.digest == hash_token(run.stdout.strip().encode())

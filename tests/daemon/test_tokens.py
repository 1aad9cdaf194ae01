"""
The file of tokens: what it may hold, how it is read again, and how a token gets into it.
"""

from pathlib import Path

import pytest

from dcounter.daemon.token_file import describe_token
from dcounter.daemon.tokens import TokensFile, parse_tokens
from dcounter.errors import ConfigurationError
from dcounter.http.auth import Principal, Scope, Token
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

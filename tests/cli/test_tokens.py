"""
The commands that make, list and revoke tokens.
"""

import json
from pathlib import Path

import click
import pytest

from dcounter.cli.exits import Exit
from dcounter.cli.main import run
from dcounter.daemon.token_file import read_tokens
from dcounter.http.auth import hash_token


def test_tokens_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "tokens")
    more = ["--prefix", "acme/", "--expires", "2027-01-31T00:00:00Z", "--rate", "5", "--burst", "9"]
    assert run(["token", "new", path, "one", "--scope", "read", *more]) == 0
    made = capsys.readouterr().out.strip()
    assert [each.digest for each in read_tokens(path)] == [hash_token(made.encode())]
    assert run(["--json", "token", "new", path, "two", "--scope", "write", "--scope", "admin"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "two"
    assert run(["token", "list", path]) == 0
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert [line.split() for line in lines] == [
        ["name", "scopes", "prefixes", "expires", "rate"],
        ["one", "read", "acme/", "2027-01-31T00:00:00.000000000Z", "5/s"],
        ["two", "admin,", "read,", "write"],
    ]
    assert run(["token", "list", path, "--json"]) == 0
    first, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "name": "one",
        "scopes": ["read"],
        "prefixes": ["acme/"],
        "expires": "2027-01-31T00:00:00.000000000Z",
        "rate": 5.0,
        "burst": 9,
    }
    assert run(["token", "revoke", path, "one"]) == 0
    assert capsys.readouterr().out == "revoked one\n"
    assert [each.principal.name for each in read_tokens(path)] == ["two"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["new", "{file}", "a b", "--scope", "read"], "was not changed: "),
        (["new", "{file}/none", "a", "--scope", "read"], "was not changed: Not a directory"),
        (["revoke", "{file}", "none"], "was not changed: there is no token 'none'"),
        (["list", "{file}/none"], "cannot be read: Not a directory"),
    ],
)
def test_what_cannot_be_is_told(
    tmp_path: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tokens"
    file.write_text("# none\n")
    assert run(["token", *(each.format(file=file) for each in arguments)]) == Exit.FAILED
    assert why in capsys.readouterr().err
    assert file.read_text() == "# none\n"

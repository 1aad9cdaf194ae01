"""
What `dcounter.daemon.configuration_check` finds, without starting anything.
"""

from pathlib import Path

import pytest

from dcounter.daemon.configuration_check import check

PEERS = ("cert", "key", "ca")


def found(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    (tmp_path / "c.toml").write_text(text)
    findings = check(str(tmp_path / "c.toml"), environ or {})
    return [str(each).replace(f"{tmp_path}/", "") for each in findings]


def test_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    assert found(tmp_path, 'nodes = 3\ndata-dir = "data"\noperator-token-file = "operator"') == []
    assert [each.name for each in tmp_path.iterdir()] == ["c.toml"]
    assert check(None, {}) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("node = 3", "c.toml, line 1: there is no option 'node': did you mean nodes?"),
        ("nodes = 3\nnode-port = 65534", "c.toml: --node-port: 65534 is too high for 3 nodes"),
        ('http = "tcp"', "c.toml: --http: 'tcp' is not an endpoint: "),
        ('tokens-file = "t"', "c.toml: --tokens-file: the file cannot be read: No such file or directory: t"),
        ('tls-cert = "t"\ntls-key = "k"', "c.toml: --tls-cert: t cannot be used: "),
        ('join = ["tcp:a:1"]\nsecret-file = "s"', "c.toml: --secret-file: "),
        (
            'join = ["tcp:a:1"]\nsecret-file = "c.toml"\n'
            + "".join(f'peer-tls-{each} = "t"\n' for each in PEERS),
            "c.toml: --peer-tls-cert: t cannot be used: ",
        ),
    ],
)
def test_what_a_start_would_refuse_is_found(text: str, why: str, tmp_path: Path) -> None:
    [finding] = found(tmp_path, text)
    assert finding.startswith(why)


def test_a_file_of_tokens_with_a_mistake_is_found(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("[[token]]\n")
    [finding] = found(tmp_path, 'tokens-file = "t"')
    assert finding.startswith("c.toml: --tokens-file: t cannot be understood: ")


def test_variables_that_mean_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "n.toml").write_text('secret-file = "n.toml"')
    [finding] = check(str(tmp_path / "n.toml"), {"DCOUNTER_ZEBRA": "1"}, "node")
    assert (str(finding), finding.fatal) == ("DCOUNTER_ZEBRA: no option has this name: ignored", False)

"""
The commit that a daemon was made from, if that can be known.
"""

from pathlib import Path

import pytest

import dcounter
from dcounter.daemon import software
from dcounter.daemon.software import commit_of_checkout, commit_of_install, this_software

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def checkout(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / ".git" / name.replace("__", "/").replace("packed_refs", "packed-refs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"HEAD": "ref: refs/heads/main\n", "refs__heads__main": f"{COMMIT}\n"}, COMMIT),
        ({"HEAD": f"{COMMIT}\n"}, COMMIT),
        (
            {"HEAD": "ref: refs/heads/main\n", "packed_refs": f"# pack-refs\n{COMMIT} refs/heads/main\n"},
            COMMIT,
        ),
        ({"HEAD": "ref: refs/heads/main\n", "packed_refs": f"{COMMIT} refs/heads/other\n"}, None),
        ({"HEAD": "ref: refs/heads/main\n"}, None),
        ({"HEAD": "something else"}, None),
        ({}, None),
    ],
)
def test_of_a_checkout(files: dict[str, str], found: str | None, tmp_path: Path) -> None:
    assert commit_of_checkout(checkout(tmp_path, **files)) == found


@pytest.mark.parametrize(
    ("noted", "found"),
    [
        (f'{{"url":"x","vcs_info":{{"vcs":"git","commit_id":"{COMMIT}"}}}}', COMMIT),
        ('{"url":"file:///x","dir_info":{"editable":true}}', None),
        (None, None),
        ("broken", None),
    ],
)
def test_of_an_install(noted: str | None, found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return noted

    monkeypatch.setattr(software, "distribution", lambda name: Distribution())
    assert commit_of_install("dcounter") == found


def test_of_no_install() -> None:
    assert commit_of_install("no-such-package-of-dcounter") is None


def test_the_numbers_are_those_of_this_version() -> None:
    found = this_software()
    assert found.version == dcounter.__version__
    assert 1 <= found.lowest_protocol <= found.protocol
    assert found.journal_format >= 1

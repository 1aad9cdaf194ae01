"""
What a wheel and a source archive contain.
"""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"\]\((?P<path>[\w./-]+)(?:#[\w-]*)?\)")


def test_setup_cfg_names_every_package() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "dcounter").rglob("__init__.py")
    }
    named = config["options"]["packages"].split()
    assert named == sorted(found | {"twisted.plugins"})


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_the_source_archive_has_what_a_page_links_to(page: str) -> None:
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()]
    directories = {name for command, *names in lines if command == "graft" for name in names}
    files = {name for command, *names in lines if command == "include" for name in names}
    # setuptools adds these by itself.
    files |= {"README.md", "setup.cfg", "pyproject.toml"}
    text = (ROOT / page).read_text("utf-8")
    wanted = {page, *(match["path"] for match in _LINK.finditer(text))}
    assert {path for path in wanted if not (ROOT / path).exists()} == set()
    assert {
        path for path in wanted if path not in files and path.partition("/")[0] not in directories
    } == set()

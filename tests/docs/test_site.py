"""
The documentation builds without a warning and without a network, and its pages need nothing from elsewhere.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.reference.links import SHOWN, linked, themed
from docs.reference.pages import PARTS, complete
from tests.support.site import faults

_ROOT = Path(__file__).parents[2]

_OFFLINE = """
import runpy, sys

def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        raise OSError(f"the site must not need a network: {event} {arguments}")

sys.addaudithook(refuse)
runpy.run_module("sphinx", run_name="__main__", alter_sys=True)
"""


def test_the_site_builds_and_is_whole(tmp_path: Path) -> None:
    options = ["-W", "--keep-going", "-q", "-d", str(tmp_path / "doctrees"), "-b", "html"]
    command = [sys.executable, "-c", _OFFLINE, *options, "docs", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=_ROOT, check=False, capture_output=True, text=True)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    assert faults(tmp_path / "site") == []
    pages = {page.stem for page in (_ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in (tmp_path / "site").glob("*.html")}


def test_no_page_has_what_a_merge_left() -> None:
    pages = [*(_ROOT / "docs").glob("*.md"), *_ROOT.glob("*.md"), *(_ROOT / "etc").rglob("*.md")]
    assert [
        page for page in pages if re.search(r"^(?:<{7} |>{7} )", page.read_text("utf-8"), re.MULTILINE)
    ] == []


def test_every_part_that_is_made_is_in_a_page_and_every_page_has_what_it_names() -> None:
    pages = [page.read_text("utf-8") for page in (_ROOT / "docs").glob("*.md")]
    named = [
        name for page in pages for name in re.findall(r"^<!-- reference: ([\w-]+) -->$", page, re.MULTILINE)
    ]
    assert sorted(named) == sorted(PARTS)
    assert not any("<!-- reference:" in complete(page) for page in pages)


@pytest.mark.parametrize(
    ("folder", "text", "found"),
    [
        ("docs", "[x](http.md#tokens)", "[x](http.md#tokens)"),
        ("docs", "[x](#tokens)", "[x](#tokens)"),
        ("docs", "[x](https://example.org/a)", "[x](https://example.org/a)"),
        ("docs", "[x](../CONTRIBUTING.md#tests)", "[x](contributing.md#tests)"),
        (".", "[x](docs/http.md)", "[x](http.md)"),
        ("etc", "[x](../docs/http.md#tokens)", "[x](http.md#tokens)"),
        ("benchmarks", "[x](results.md)", "[x](results.md)"),
        ("benchmarks", "![x](plots/batch.png)", "![x](../benchmarks/plots/batch.png)"),
        # No page of the site.
        ("benchmarks", "see [servers.py](servers.py)", "see servers.py"),
        (".", "[licence](LICENSE)", "licence"),
        # Not there: the build has to fail.
        ("benchmarks", "[x](nothing.py)", "[x](nothing.py)"),
    ],
)
def test_links_between_files_are_links_between_pages(folder: str, text: str, found: str) -> None:
    assert linked(text, folder) == found


def test_pictures_are_in_the_theme_of_the_reader() -> None:
    assert themed("![A node](images/node-light.png)") == (
        "![A node](images/node-light.png){.only-light}\n![A node](images/node-dark.png){.only-dark}"
    )
    assert themed("![A node](images/node.png)") == "![A node](images/node.png)"


def test_the_files_that_pages_show_exist_and_so_do_the_pages() -> None:
    for path, page in SHOWN.items():
        assert (_ROOT / path).is_file()
        assert (_ROOT / "docs" / page).is_file()


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<a href="b.html#there">', []),
        ('<a href="b.html">', []),
        ('<a href="https://example.org/">', []),
        ('<a href="#here"><p id="here">', []),
        ('<img src="data:image/png;base64,AA">', []),
        ('<a href="c.html">', ["a.html: c.html leads nowhere"]),
        ('<a href="b.html#gone">', ["a.html: b.html#gone leads nowhere"]),
        ('<a href="#gone">', ["a.html: #gone leads nowhere"]),
        ('<img src="gone.png">', ["a.html: gone.png does not exist"]),
        (
            '<script src="https://cdn.example/x.js">',
            ["a.html: https://cdn.example/x.js is a request to another place"],
        ),
        ('<link href="//cdn.example/x.css">', ["a.html: //cdn.example/x.css is a request to another place"]),
        (
            '<p style="background: url(http://cdn.example/x.png)">',
            ["a.html: http://cdn.example/x.png is a request to another place"],
        ),
    ],
)
def test_a_fault_of_a_page_is_found(tmp_path: Path, html: str, found: list[str]) -> None:
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<h2 id="there">')
    assert faults(tmp_path) == found


def test_a_fault_of_a_style_sheet_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text('@import "https://cdn.example/x.css"; p { background: url("gone.png") }')
    assert faults(tmp_path) == [
        "a.css: gone.png does not exist",
        "a.css: https://cdn.example/x.css is a request to another place",
    ]

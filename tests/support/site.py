"""
What is wrong with a folder of pages for browsers: links that lead nowhere, and requests to other places.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_LOADED: Final = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "embed": "src",
    "form": "action",
}
"""
Elements for which a browser makes a request, and which of their attributes says where.
"""

_IN_STYLE: Final = re.compile(r"""(?:url\(|@import\s)\s*["']?(?P<url>[^"')\s]+)""")


@dataclass
class Page(HTMLParser):
    """
    What a page links to, what it loads, and the anchors that it has.
    """

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif values.get(_LOADED.get(tag, "")):
            self.loads.append(values[_LOADED[tag]])
        self.loads += (match["url"] for match in _IN_STYLE.finditer(values.get("style", "")))


def faults(site: Path) -> list[str]:
    """
    What is wrong with the pages and style sheets below a folder.
    """
    return sorted(
        f"{file.relative_to(site)}: {fault}"
        for file in site.rglob("*")
        for fault in (
            _of_page(file) if file.suffix == ".html" else _of_style(file) if file.suffix == ".css" else ()
        )
    )


def _of_page(file: Path) -> Iterator[str]:
    page = _page(file)
    for link in page.links:
        if not urlsplit(link).scheme and not _leads_somewhere(file, link):
            yield f"{link} leads nowhere"
    yield from _of_loads(file, page.loads)


def _of_style(file: Path) -> Iterator[str]:
    yield from _of_loads(file, [match["url"] for match in _IN_STYLE.finditer(file.read_text("utf-8"))])


def _of_loads(file: Path, loads: list[str]) -> Iterator[str]:
    for url in loads:
        parts = urlsplit(url)
        if parts.netloc or parts.scheme not in {"", "data"}:
            yield f"{url} is a request to another place"
        elif parts.path and not parts.scheme and not (file.parent / unquote(parts.path)).exists():
            yield f"{url} does not exist"


def _leads_somewhere(file: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.netloc:
        return True
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_file():
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in _page(target).anchors


@cache
def _page(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text("utf-8"))
    page.close()
    return page

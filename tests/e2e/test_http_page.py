"""
The examples of docs/http.md work: each is run with a shell, and its answer is the one that the page shows.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Json

_PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
_SECTION = re.compile(r"^## (?P<title>.+?)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_COMMAND = re.compile(r"    (?:curl|stamp=|printf|gzip)")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
"""
Times change from run to run.
"""
_ANY = re.compile(r"\.\.\.|\(the same as ")
"""
Where the page leaves something out.
"""


def examples(title: str) -> Iterator[tuple[str, Json]]:
    """
    The commands of a section, and the answer to the last one of each block; `None` if the page shows none.
    """
    [text] = [found["text"] for found in _SECTION.finditer(_PAGE) if found["title"] == title]
    blocks = _BLOCK.findall(text)
    for block, following in zip(blocks, [*blocks[1:], ""], strict=True):
        if _COMMAND.match(block):
            command = "\n".join(line.removeprefix("    ") for line in block.splitlines())
            # A number that is left out.
            answer = re.sub(r":\.\.\.", ":null", following)
            yield command, None if _COMMAND.match(following) or not following else json.loads(answer)


def shown_alike(shown: Json, found: Json) -> bool:
    """
    Whether an answer is the one that the page shows, as far as it shows it.
    """
    if isinstance(shown, dict):
        return shown.keys() == found.keys() and all(shown_alike(shown[key], found[key]) for key in shown)
    if isinstance(shown, list):
        return len(shown) == len(found) and all(map(shown_alike, shown, found))
    if shown is None:
        return type(found) in {int, type(None)}
    if isinstance(shown, str) and _TIME.fullmatch(shown):
        return bool(_TIME.fullmatch(found))
    return bool(shown == found or (isinstance(shown, str) and _ANY.search(shown)))


@pytest.mark.parametrize(
    "titles",
    [
        ["Storing", "Counting", "Looking up", "Listing"],
        ["Deleting", "Deleting a tenant"],
        ["Receipts"],
        ["Retries"],
        ["Loads"],
        ["Exporting"],
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_examples_answer_what_the_page_shows(
    titles: list[str], start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = await start_daemon()
    found = [each for title in titles for each in examples(title)]
    assert len(found) >= len(titles)
    for command, shown in found:
        ours = command.replace("127.0.0.1:8085", f"127.0.0.1:{daemon.ports.http}")
        output, problem, code = await getProcessOutputAndValue(
            "/bin/bash", ["-ec", ours], os.environ, str(tmp_path)
        )
        assert code == 0, problem
        *_, answer = re.findall(rb'\{"(?:[^{}]|\{[^{}]*\})*\}', output)
        if shown is not None:
            assert shown_alike(shown, json.loads(answer)), answer

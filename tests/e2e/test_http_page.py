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
from openapi_spec_validator import OpenAPIV31SpecValidator
from twisted.internet.utils import getProcessOutputAndValue

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Daemon, Json
from tests.e2e.test_tokens import make

_PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
_SECTION = re.compile(r"^## (?P<title>.+?)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_COMMAND = re.compile(r"    (?:curl|stamp=|printf|gzip|ACME=)")
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


async def run_shell(command: str, daemon: Daemon, directory: Path) -> bytes:
    """
    What a command prints that is run with a shell.
    """
    ours = command.replace("127.0.0.1:8085", f"127.0.0.1:{daemon.ports.http}")
    output: tuple[bytes, bytes, int] = await getProcessOutputAndValue(
        "/bin/bash", ["-ec", ours], os.environ, str(directory)
    )
    assert output[2] == 0, output[1]
    return output[0]


def keep_token(daemon: Daemon, directory: Path) -> None:
    """
    Put the operator's token where commands that run in a directory find it.
    """
    (directory / "dcounter-data").mkdir()
    (directory / "dcounter-data" / "operator-token").write_text(daemon.token.read_text())


@pytest.mark.parametrize(
    "titles",
    [
        ["Storing", "Counting", "Looking up", "Listing"],
        ["Deleting", "Deleting a tenant"],
        ["Receipts"],
        ["Retries"],
        ["Loads"],
        ["Exporting"],
        ["Status", "Compaction", "Operating"],
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_examples_answer_what_the_page_shows(
    titles: list[str], start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = await start_daemon()
    keep_token(daemon, tmp_path)
    found = [each for title in titles for each in examples(title)]
    assert len(found) >= len(titles)
    for command, shown in found:
        output = await run_shell(command, daemon, tmp_path)
        if shown is not None:
            *_, answer = re.findall(rb'\{"(?:[^{}]|\{[^{}]*\})*\}', output)
            assert shown_alike(shown, json.loads(answer)), answer


@pytest_twisted.ensureDeferred
async def test_a_daemon_describes_itself(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon()
    [(command, _)] = examples("OpenAPI")
    await run_shell(command, daemon, tmp_path)
    document = json.loads((tmp_path / "openapi.json").read_text())
    OpenAPIV31SpecValidator(document).validate()
    page = (tmp_path / "docs.html").read_text()
    assert len(document["paths"]) > 20
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert [each["operationId"] for each in operations if f'id="{each["operationId"]}"' not in page] == []
    assert not re.search(r"<script|<link[^>]+stylesheet|src=", page)


@pytest_twisted.ensureDeferred
async def test_a_bound_token_is_refused_as_the_page_shows(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    (tmp_path / "acme.token").write_text(make(file, "acme-dashboard", "--scope=read", "--prefix=acme/"))
    daemon = await start_daemon(f"--tokens-file={file}")
    [(command, shown)] = examples("Tokens")
    assert shown_alike(shown, json.loads(await run_shell(command, daemon, tmp_path)))

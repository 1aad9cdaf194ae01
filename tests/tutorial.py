"""
Does what docs/tutorial.md says, in a new clone, and tells how long each step takes: `make tutorial`.

Commands that go on until Ctrl-C are left running until the end, as in a terminal of their own.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "tutorial.md"

_SECTION: Final = re.compile(r"^## (\d+\. [^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WHERE: Final = re.compile(r"^(?:cd |\. ).*$", re.MULTILINE)
"""
Lines that only say where a terminal is: each later command is run there, too.
"""
_PATIENCE_S: Final = 240.0
_PAUSE_S: Final = 0.05


@dataclass(frozen=True)
class Step:
    """
    A section of the page.

    :ivar commands: its commands for a shell, block by block.
    """

    title: str
    commands: Sequence[str]


def steps(page: str) -> list[Step]:
    """
    The numbered sections of a page.
    """
    return [Step(title, _BLOCK.findall(text)) for title, text in _SECTION.findall(page)]


class Walk:
    """
    A walk through the page.

    :param directory: an empty directory.
    :param http: the port of HTTP; the page has 8085.
    :param nodes: the first port for nodes.
    """

    def __init__(self, directory: Path, http: int, nodes: int) -> None:
        self._directory = directory
        self._url = f"http://127.0.0.1:{http}"
        self._options = f"--http tcp:{http}:interface=127.0.0.1 --node-port {nodes}"
        self._where: list[str] = []
        self._running = ExitStack()
        self._lasting: Mapping[str, Callable[[], bool]] = {
            "make run": self._is_ready,
            "dcounter demo": self._is_moving,
        }

    def take(self, step: Step) -> float:
        """
        Do what a step says.

        :return: how long it took, in seconds.
        """
        started = time.monotonic()
        for block in step.commands:
            commands = _WHERE.sub("", block).strip()
            # A terminal that has not gone anywhere yet is where the one before is.
            self._where += [line for line in _WHERE.findall(block) if line not in self._where]
            if commands in self._lasting:
                self._running.enter_context(self._started(commands))
                self._wait(self._lasting[commands], commands)
            elif commands:
                shell = self._shell(commands)
                subprocess.run(shell, cwd=self._directory, env=self._environment(), check=True)
        return time.monotonic() - started

    def end(self) -> None:
        """
        Press Ctrl-C in each terminal.
        """
        self._running.close()

    def _shell(self, commands: str) -> list[str]:
        commands = commands.replace("http://127.0.0.1:8085", self._url)
        if commands == "make run":
            commands = f'exec make run ARGS="{self._options}"'
        # The clone is made in the directory; all else happens in it.
        where = self._where if (self._directory / "dcounter").exists() else []
        return ["bash", "-euc", "\n".join([*where, commands])]

    def _environment(self) -> dict[str, str]:
        """
        What a newcomer has: no environment of ours, and nothing that pip has kept.
        """
        ours = ("VIRTUAL_", "PYTHON", "DCOUNTER_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {"DCOUNTER_URL": self._url, "PIP_NO_CACHE_DIR": "1", "REPOSITORY": str(ROOT)}

    @contextmanager
    def _started(self, commands: str) -> Iterator[None]:
        log = self._directory / f"{commands.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._shell(commands),
                cwd=self._directory,
                env=self._environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                log = (self._directory / f"{what.replace(' ', '-')}.log").read_text()
                raise TimeoutError(f"{what}: not there after {_PATIENCE_S:.0f} s\n{log}")
            time.sleep(_PAUSE_S)

    def _is_ready(self) -> bool:
        return self._get("/readyz") is not None

    def _is_moving(self) -> bool:
        """
        Whether the page of the dashboard is there, and counts change.
        """
        if self._get("/") is None:
            return False
        with urlopen(f"{self._url}/events", timeout=10) as events:
            return any(line.startswith(b"event: count") for line in events)

    def _get(self, path: str) -> bytes | None:
        try:
            with urlopen(self._url + path, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except (URLError, ConnectionError, TimeoutError):
            return None


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Walk, and print a table of times, as the page has it.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", type=int, default=8085, help="the port of HTTP")
    parser.add_argument("--nodes", type=int, default=8090, help="the first port of nodes")
    parser.add_argument("--keep", action="store_true", help="leave the clone there")
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="dcounter-tutorial-"))
    walk = Walk(directory, options.http, options.nodes)
    try:
        total = 0.0
        for step in steps(PAGE.read_text("utf-8")):
            if step.commands:
                taken = walk.take(step)
                total += taken
                sys.stdout.write(f"| {step.title} | {taken:.1f} s | {total:.1f} s |\n")
                sys.stdout.flush()
    finally:
        walk.end()
        if not options.keep:
            shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

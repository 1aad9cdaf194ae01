"""
The examples of the documentation about tokens, certificates and headers do what the pages say.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import TWISTD, Ports

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="no curl")


def script(page: str, section: str) -> str:
    """
    The commands of a section's last example for a shell that starts a daemon.
    """
    text = (DOCS / page).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = [each for each in re.findall(r"\n```sh\n(.*?)```\n", text, re.DOTALL) if " &\n" in each]
    return str(found[-1])


async def run(commands: str, directory: Path, ports: Ports) -> str:
    """
    Run a script with ports of the test. A daemon that it starts has no nodes in processes of their own.
    """
    http = f"--http tcp:{ports.http}:interface=127.0.0.1"
    inline = f"--in-memory --inline --node-port {ports.nodes[0]}"
    commands = commands.replace("dcounter serve --t", f"dcounter serve {inline} {http} --t")
    commands = commands.replace("dcounter serve --j", f"dcounter serve {http} --j")
    for shown, own in ((8085, ports.http), (9090, ports.nodes[0]), (9190, ports.nodes[50])):
        commands = commands.replace(f":{shown}", f":{own}")
    whole = f"set -eu\ntrap 'kill $(jobs -p); wait' EXIT\n{commands}"
    environment = {"PATH": f"{TWISTD.parent}:/usr/bin:/bin", "PYTHONPATH": str(DOCS.parent)}
    output: Any = await getProcessOutputAndValue(
        "/bin/bash", ["-c", whole], env=environment, path=str(directory)
    )
    out, err, _ = output
    print(err.decode())  # noqa: T201 - shown if the test fails
    return str(out.decode())


@pytest_twisted.ensureDeferred
async def test_tokens(tmp_path: Path, ports: Ports) -> None:
    output = await run(script("securing.md", "Tokens"), tmp_path, ports)
    stored, counted, refused = re.findall(r"\{.*?\}(?=\{|$)", output)
    assert '"items":2' in stored
    assert '"counter":1,"tenant":"acme/shop"' in counted
    assert '"code":"forbidden"' in refused
    assert "the token 'acme' may read only tenants whose names begin with 'acme/', not 'other'" in refused


@pytest_twisted.ensureDeferred
async def test_certificates(tmp_path: Path, ports: Ports) -> None:
    output = await run(script("securing.md", "HTTPS"), tmp_path, ports)
    assert output.endswith("}")
    assert '{"counter":0,"tenant":"hello"' in output


@pytest_twisted.ensureDeferred
async def test_certificates_of_nodes(tmp_path: Path, ports: Ports) -> None:
    output = await run(script("securing.md", "TLS between nodes"), tmp_path, ports)
    assert '"items":2' in output
    assert '"counter":2,"tenant":"hello"' in output
    for log in ("log-0", "log-1", "log"):
        assert "TLS uses the certificate in" in (tmp_path / log).read_text()


@pytest_twisted.ensureDeferred
async def test_headers(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon("--cors-origin=https://app.example")
    examples = re.findall(r"\n    (curl -si (?:.*\\\n)*.*)\n", (DOCS / "http.md").read_text())
    assert len(examples) == 2
    named, asked = [await run(each, tmp_path, daemon.ports) for each in examples]
    assert named.startswith("HTTP/1.1 200 OK\r\n")
    assert "\r\nCache-Control: no-store\r\n" in named
    assert "\r\nX-Request-ID: 7f3a\r\n" in named
    assert asked.startswith("HTTP/1.1 200 OK\r\n")
    assert "\r\nAccess-Control-Allow-Origin: https://app.example\r\n" in asked

"""
Whom a daemon lets in: tokens as its operator makes, changes and revokes them; callers on other machines.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Ports, Twistd, items


def make(file: Path, name: str, *options: str) -> str:
    """
    The command that makes a token.
    """
    command = [sys.executable, "-m", "dcounter.daemon.tokens", str(file), name, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def count(client: Client, tenant: str, token: str | None) -> tuple[int, str | None]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = await client.ask("GET", f"/items/{tenant}/count", headers=headers)
    return answer.status, answer.code


@pytest_twisted.ensureDeferred
async def test_tokens_are_made_bound_and_revoked_while_the_daemon_runs(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.toml"
    writer = make(file, "loader", "--scope=write", "--scope=read")
    acme = make(file, "acme", "--scope=read", "--prefix=acme/")
    daemon = await start_daemon(f"--tokens-file={file}")
    await daemon.until_logged(r"2 tokens are accepted, of (\S+tokens\.toml)")
    client = daemon.client()

    stored = await client.ask(
        "POST",
        "/items",
        json=items(range(5), "acme/shop") + items(range(5, 8), "other"),
        headers={"Authorization": f"Bearer {writer}"},
    )
    assert stored.status == 200
    assert await count(client, "acme%2Fshop", acme) == (200, None)
    assert await count(client, "other", acme) == (403, "forbidden")
    assert await count(client, "other", writer) == (200, None)
    assert await count(client, "other", None) == (401, "unauthenticated")
    bound = await client.ask(
        "POST", "/items", json=items([9], "acme/x"), headers={"Authorization": f"Bearer {acme}"}
    )
    assert (bound.status, bound.content["outcome"]) == (403, "not_applied")

    # A mistake changes nothing.
    right = file.read_text()
    file.write_text(right + "\n[[token]]\n")
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.until_logged("the tokens that were read before stay in (force)")
    daemon.expected.append("tokens.toml cannot be understood")
    assert await count(client, "other", writer) == (200, None)

    file.write_text(right)
    late = make(file, "late", "--scope=read")
    assert await count(client, "other", late) == (401, "unauthenticated")
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.until_logged("(3) tokens are accepted")
    assert await count(client, "other", late) == (200, None)

    # Without its lines a token is worth nothing.
    file.write_text(right[right.index("\n[[token]]") :])
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.until_logged("(1) tokens are accepted")
    assert await count(client, "acme%2Fshop", acme) == (200, None)
    for token in (writer, late):
        assert await count(client, "other", token) == (401, "unauthenticated")
    for token in (writer, acme, late):
        assert token not in daemon.log
    await client.close()


@pytest_twisted.ensureDeferred
async def test_the_operator_restarts_a_node_as_before(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    admin = make(file, "admin", "--scope=admin")
    daemon = await start_daemon(f"--tokens-file={file}")
    client = daemon.client()
    for node, token in enumerate([daemon.token.read_text().strip(), admin]):
        headers = {"Authorization": f"Bearer {token}"}
        (await client.ask("POST", "/cluster/restart", json={"node": node}, headers=headers)).ok()
        assert (await client.ask("GET", "/cluster", headers=headers)).status == 200
        refused = await client.ask("POST", "/items", json=[], headers=headers)
        assert (refused.status, refused.code) == (403, "forbidden")
    await client.close()


@pytest.mark.parametrize("where", ["", ":interface=0.0.0.0"])
@pytest_twisted.ensureDeferred
async def test_other_machines_are_not_let_in_by_accident(tmp_path: Path, ports: Ports, where: str) -> None:
    options = [f"--http=tcp:{ports.http}{where}", f"--node-port={ports.nodes[0]}"]
    ended = await Twistd(["-n", "--pidfile=", "dcounter", *options], tmp_path).end()
    assert ended.code == 1
    assert ended.output.startswith("dcounter does not start: HTTP can be reached from other machines")
    assert len(ended.output.splitlines()) == 1
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_an_insecure_daemon_says_so(start_daemon: StartDaemon, ports: Ports) -> None:
    daemon = await start_daemon(f"--http=tcp:{ports.http}", "--insecure", ports=ports)
    (line,) = await daemon.until_logged(r" warn  (--insecure: HTTP can be reached from other machines.*)")
    client = daemon.client()
    assert (await client.cluster())["warnings"] == [line]
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_page_and_the_name_of_a_request(start_daemon: StartDaemon) -> None:
    page = "https://app.example"
    daemon = await start_daemon(f"--cors-origin={page}")
    client = daemon.client()
    asking = {"Origin": page, "Access-Control-Request-Method": "POST"}
    assert (await client.ask("OPTIONS", "/items", headers=asking)).status == 200
    assert (await client.ask("GET", "/cluster", headers={"Origin": page})).status == 200
    assert (await client.ask("GET", "/cluster", headers={"Origin": "https://evil.example"})).status == 403
    headers = {"X-Request-ID": "7f3a", "Authorization": f"Bearer {daemon.token.read_text().strip()}"}
    (await client.ask("POST", "/cluster/restart", json={"node": 1}, headers=headers)).ok()
    await daemon.until_logged(r"(operator at 127\.0\.0\.1 asked to restart node 1, X-Request-ID 7f3a)")
    await client.close()

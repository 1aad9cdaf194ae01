"""
Whom a daemon lets in: tokens as its operator makes, changes and revokes them; callers on other machines.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted

from dcounter.client import Answer
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Json, Ports, Raw, Twistd, items


def make(file: Path, name: str, *options: str) -> str:
    """
    The command that makes a token.
    """
    command = [str(Path(sys.executable).with_name("dcounter")), "token", "new", str(file), name, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def command_line(pid: int) -> str:
    """
    What the list of processes shows of one.
    """
    return Path(f"/proc/{pid}/cmdline").read_text()


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
async def test_a_bound_token_learns_nothing_of_others(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    writer = make(file, "loader", "--scope=write")
    acme = make(file, "acme", "--scope=read", "--prefix=acme/")
    daemon = await start_daemon(f"--tokens-file={file}", processes=True)
    client = daemon.client()
    hidden = "hidden-tenant"
    stored = await client.ask(
        "POST",
        "/items",
        json=[*items([1, 2], "acme/one"), *items([3], "acme/two"), *items([4, 5], hidden)],
        headers=bearer(writer),
    )
    assert stored.status == 200

    async def ask(method: str, path: str, body: Json = None) -> Answer:
        answer = await client.ask(method, path, json=body, headers=bearer(acme))
        # Neither in answers nor in errors, unless it is what the request named.
        assert hidden in path or hidden.encode() not in answer.body
        return answer

    listed = (await ask("GET", "/tenants?prefix=acme/&sort=-count")).ok()
    assert [each["tenant"] for each in listed["tenants"]] == ["acme/one", "acme/two"]
    assert (await ask("GET", "/counts?prefix=acme/")).ok()["counter"] == 3
    assert (await ask("GET", "/tenants/acme%2Fone/items")).ok()["IDs"] == [1, 2]
    assert (await ask("GET", "/items/3")).ok()["tenant"] == "acme/two"
    looked = (await ask("POST", "/items/lookup", [1, 4, 9])).ok()
    assert ([each["ID"] for each in looked["items"]], looked["unknown"]) == ([1], [4, 9])
    # What another tenant owns looks like what nobody owns.
    theirs, nobodys = [(await ask("GET", f"/items/{item}")).content for item in (4, 9)]
    assert (theirs["code"], theirs["detail"].replace("4", "9")) == (nobodys["code"], nobodys["detail"])
    for path in (
        *("/tenants", "/tenants?prefix=acme", "/counts", "/counts?prefix=", f"/tenants/{hidden}"),
        *(
            f"/tenants/{hidden}/items",
            "/stats",
            "/cluster",
            "/audit",
            "/export?deleted=1",
            "/events?prefix=a",
        ),
    ):
        assert (await ask("GET", path)).code == "forbidden", path
    # No secret is in the log, or where all users of the machine can read it.
    nodes = (await client.ask("GET", "/cluster", headers=bearer(daemon.token.read_text().strip()))).ok()[
        "nodes"
    ]
    secret = json.loads((tmp_path / "data" / "cluster.json").read_text())["secret"]
    readable = [daemon.log, *map(command_line, [daemon.pid, *(each["pid"] for each in nodes)])]
    for each in (writer, acme, secret, daemon.token.read_text().strip()):
        assert not [text for text in readable if each in text]
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_token_with_a_rate_has_to_wait(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    slow = make(file, "slow", "--scope=read", "--rate=0.01", "--burst=2")
    daemon = await start_daemon(f"--tokens-file={file}")

    async def ask() -> tuple[bytes, dict[bytes, bytes]]:
        caller = await Raw.connect(daemon.ports.http)
        caller.write(
            b"GET /items/a/count HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % slow.encode()
        )
        await caller.until_closed()
        first, *lines = bytes(caller.received).partition(b"\r\n\r\n")[0].split(b"\r\n")
        return first, dict(each.split(b": ", 1) for each in lines)

    (first, told), (second, _), (third, refused) = [await ask() for _ in range(3)]
    assert first == second == b"HTTP/1.1 200 OK"
    assert told[b"RateLimit-Policy"] == b'"requests";q=2;w=200'
    assert third == b"HTTP/1.1 429 Too Many Requests"
    assert refused[b"RateLimit"].startswith(b'"requests";r=0;t=')
    assert 50 < int(refused[b"Retry-After"]) <= 100


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
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {
        "X-Request-ID": "7f3a",
        "traceparent": traced,
        "Authorization": f"Bearer {daemon.token.read_text().strip()}",
    }
    (await client.ask("POST", "/cluster/restart", json={"node": 1}, headers=headers)).ok()
    named = rf"X-Request-ID 7f3a, traceparent {traced}"
    await daemon.until_logged(rf"operator at 127\.0\.0\.1 asked to restart node 1, {named}")
    await client.close()

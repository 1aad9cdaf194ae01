"""
Backups of a real daemon: written while others write, proved, restored elsewhere, and checked on the disk.
"""

import json
import signal
from pathlib import Path

import pytest_twisted

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import eventually
from tests.e2e.test_commands import Shell
from tests.e2e.test_exports import made
from tests.e2e.test_loads import caller

NUMBER = 90_000


@pytest_twisted.ensureDeferred
async def test_a_daemon_is_backed_up_and_another_one_restored(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = await start_daemon(processes=True)
    shell, client = Shell(daemon.ports.http, tmp_path), caller(daemon)
    await client.load(made(range(NUMBER)))
    await client.delete(range(0, NUMBER, 1_000))
    writing = shell.begin("backup", "busy.zst")
    # Whatever others do meanwhile, it is a whole one.
    while writing.running:
        await client.store([{"ID": each, "tenant": "moved"} for each in range(1, NUMBER, 300)])
    assert (await writing.end()).code == 0
    [busy] = await shell.json("backup", "verify", "busy.zst")
    assert NUMBER <= busy["items"] + busy["tombstones"] < NUMBER + 10
    assert (busy["tombstones"], len(busy["cluster"])) == (NUMBER // 1_000, 32)

    [wrote] = await shell.json("backup", "quiet.zst", "--after", busy["position"])
    [audited] = await shell.json("audit", "--token-file", str(daemon.token))
    assert (wrote["items"], wrote["tombstones"], wrote["digest"]) == (
        audited["items"],
        audited["tombstones"],
        audited["digest"],
    )
    # By way of pipes, too, it is the same.
    piped = await shell.bash(
        "dcounter backup - --uncompressed 2>wrote | tee piped | dcounter backup verify - --json;"
        " wc -l < piped"
    )
    verified, lines = piped.splitlines()
    assert (json.loads(verified)["digest"], int(lines)) == (wrote["digest"], NUMBER + 2)
    assert "wrote -: " in (tmp_path / "wrote").read_text()

    other = await start_daemon()
    target, bookmark = Shell(other.ports.http, tmp_path), tmp_path / "quiet.zst.restoring"
    token = ("--token-file", str(other.token))
    # A restore that is killed goes on when it is repeated.
    killed = target.begin("restore", "quiet.zst", *token)

    async def begun() -> bool:
        return bookmark.exists()

    await eventually(begun, what="a part that is stored")
    killed.send_signal(signal.SIGKILL)
    await killed.end()
    [restored] = await target.json("restore", "quiet.zst", *token)
    assert (restored["equal"], restored["items"]) == (True, wrote["items"])
    assert 0 < restored["sent"] < NUMBER
    assert not bookmark.exists()
    _, why = await target.run("restore", "quiet.zst", *token, status=4)
    assert "the cluster is not empty" in why
    text, _ = await target.run("restore", "quiet.zst", "--merge", *token)
    assert "hold the same, and count it rightly" in text

    # What a running daemon writes is not checked.
    _, why = await shell.run("check", "data", status=1)
    assert "is used by process" in why
    await daemon.stop()
    [checked] = await shell.json("check", "data")
    assert [(each["items"], each["whole"]) for each in checked["nodes"]] == [(wrote["items"], True)] * 4
    await client.close()

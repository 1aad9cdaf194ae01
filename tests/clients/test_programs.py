"""
Clients that others wrote, as their users run them, against a real daemon.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests.e2e.harness import Daemon
from tests.support.clients import EXPECTED, TOO_LARGE, heard, one

HERE = Path(__file__).parent


async def run(*command: str) -> str:
    """
    Run a program; it must succeed.
    """
    # A minute is enough for any of them, and one that hangs must not hang the test.
    output: Any = getProcessOutputAndValue("/usr/bin/env", ["timeout", "60", *command])
    out, err, code = await output
    assert code == 0, (command, code, out, err)
    return str(out.decode())


def base(daemon: Daemon) -> str:
    return f"http://127.0.0.1:{daemon.ports.http}"


@pytest.mark.parametrize(
    "command",
    [
        ["node", f"{HERE}/fetch.mjs"],
        ["java", f"{HERE}/Steps.java", "HTTP_1_1"],
        # It offers h2c until an answer comes, and goes on with what it gets.
        ["java", f"{HERE}/Steps.java", "HTTP_2"],
    ],
    ids=["fetch of Node.js", "HttpClient of Java", "HttpClient of Java with h2c"],
)
@pytest_twisted.ensureDeferred
async def test_all_steps(daemon: Daemon, command: list[str]) -> None:
    first = daemon.new_ids(1_001)[0]
    out = await run(*command, base(daemon), str(first), f"t{first}")
    assert heard(out.splitlines()) == EXPECTED


@pytest_twisted.ensureDeferred
async def test_wrk(daemon: Daemon, tmp_path: Path) -> None:
    first = daemon.new_ids(1)[0]
    script = tmp_path / "post.lua"
    body = one(first, "wrk").decode()
    # Eight requests at once: a pipeline.
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
        "init = function() all = string.rep(wrk.format(nil, '/items'), 8) end\n"
        "request = function() return all end\n"
    )
    for arguments in ([f"{base(daemon)}/items/wrk/count"], ["-s", str(script), base(daemon)]):
        out = await run("wrk", "-t", "1", "-c", "16", "-d", "1", *arguments)
        # It counts answers that are not 2xx, and errors of sockets, in lines that are there only then.
        assert "Non-2xx" not in out
        assert "Socket errors" not in out
        (requests,) = re.findall(r"(\d+) requests in", out)
        assert int(requests) > 100


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--http1.1"], 200),
        (["--http1.0"], 200),
        (["--http1.0", "-H", "Connection: keep-alive"], 200),
        # It offers h2c, and goes on with what it gets.
        (["--http2"], 200),
        (["-H", "Expect: 100-continue", "--expect100-timeout", "60"], 200),
        (["-H", "Transfer-Encoding: chunked"], 200),
        (["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"], 200),
        (["-H", "Content-Encoding: gzip"], 415),
        (["--request-target", "http://localhost/items", "-H", "Host: localhost"], 200),
        (["--request-target", "http://localhost/items"], 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_curl(daemon: Daemon, arguments: list[str], status: int) -> None:
    body = one(daemon.new_ids(1)[0], "curl").decode()
    each = ["-s", "-o", "-", "-w", "%{http_code} %{num_connects}\n", "--max-time", "20", *arguments]
    once = [*each, "-d", body, f"{base(daemon)}/items"]
    first, second = (await run("curl", *once, "--next", *once)).splitlines()
    assert first.rpartition("}")[2].split() == [str(status), "1"]
    # The connection is used again, unless HTTP/1.0 or a refusal ends it.
    stays = status == 200 and (arguments[0] != "--http1.0" or len(arguments) > 1)
    assert second.rpartition("}")[2].split() == [str(status), "0" if stays else "1"]


@pytest.mark.parametrize("more", [[], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]])
@pytest_twisted.ensureDeferred
async def test_curl_with_a_body_that_is_too_large(daemon: Daemon, tmp_path: Path, more: list[str]) -> None:
    large = tmp_path / "large"
    large.write_bytes(TOO_LARGE)
    # It may have sent more than the daemon wanted to read, which is no error if the answer is there.
    command = ["curl", "-s", "--max-time", "20", *more, "--data-binary", f"@{large}", f"{base(daemon)}/items"]
    output: Any = getProcessOutputAndValue("/usr/bin/env", command)
    out, err, _ = await output
    assert (json.loads(out)["code"], err) == ("body_too_large", b"")

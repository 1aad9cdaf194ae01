"""
A daemon that speaks TLS by its options: callers with and without a certificate, and files that change.
"""

import http.client
import json
import os
import signal
import ssl
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.threads import deferToThread

from dcounter.daemon.token_file import describe_token
from tests.e2e.harness import Ports, Twistd, eventually, is_open
from tests.support.certificates import Authority
from tests.support.logs import bad_lines


async def in_thread(function: Callable[[], Any]) -> Any:
    return await deferToThread(function)


def ask(port: int, context: ssl.SSLContext, path: str, body: bytes | None = None, **headers: str) -> Any:
    """
    Answers to two requests on one connection, and the serial number of the daemon's certificate.
    """
    with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)) as caller:
        answers = []
        for _ in range(2):
            caller.request("GET" if body is None else "POST", path, body, headers)
            answer = caller.getresponse()
            answers.append((answer.status, json.load(answer)))
        assert caller.sock is not None
        certificate = caller.sock.getpeercert()
        assert certificate is not None
        protocol = caller.sock.selected_alpn_protocol()
    return answers[1], int(str(certificate["serialNumber"]), 16), protocol


def refused(port: int, context: ssl.SSLContext) -> bool:
    try:
        ask(port, context, "/healthz")
    except (ssl.SSLError, ConnectionError, http.client.BadStatusLine):
        return True
    return False


@pytest_twisted.ensureDeferred
async def test_callers_need_a_certificate_of_the_authority(tmp_path: Path, ports: Ports) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    certificate, key = ours.issue("server")
    process = Twistd(
        [
            *("-n", "--pidfile=", "dcounter", "--in-memory", "--inline", "--suspicion=5"),
            # Every interface: client certificates are protection enough.
            *(f"--http=tcp:{ports.http}", f"--node-port={ports.nodes[0]}"),
            *(f"--tls-cert={certificate}", f"--tls-key={key}", f"--tls-client-ca={ours.file}"),
        ],
        tmp_path,
    )
    try:
        context = ssl.create_default_context(cafile=str(ours.file))
        stranger = ssl.create_default_context(cafile=str(ours.file))
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.load_cert_chain(*ours.issue("caller"))
        foreign = ssl.create_default_context(cafile=str(ours.file))
        foreign.load_cert_chain(*theirs.issue("foreign"))
        old = ssl.create_default_context(cafile=str(ours.file))
        old.load_cert_chain(*ours.issue("old", days=-1))

        async def ready() -> bool:
            assert process.running, process.output
            if not is_open(ports.http):
                return False
            (status, _), _, _ = await in_thread(lambda: ask(ports.http, context, "/readyz"))
            return bool(status == 200)

        await eventually(ready, what="a ready daemon")
        assert f"HTTP listens on https://127.0.0.1:{ports.http}" in process.output
        body = b'[{"ID":1,"tenant":"a"}]'
        (status, _), serial, protocol = await in_thread(lambda: ask(ports.http, context, "/items", body))
        assert (status, serial, protocol) == (200, 2, "http/1.1")
        for each in (stranger, foreign, old):
            assert await in_thread(partial(refused, ports.http, each))
        # Without TLS nothing is answered, and nothing breaks.
        plain = http.client.HTTPConnection("127.0.0.1", ports.http, timeout=10)

        def speak_plainly() -> bool:
            try:
                plain.request("GET", "/healthz")
                plain.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                return True
            finally:
                plain.close()
            return False

        assert await in_thread(speak_plainly)

        # New files are used for new connections.
        new, new_key = theirs.issue("server")
        assert (new, new_key) == (certificate, key)
        ours.file.write_bytes(theirs.file.read_bytes())
        process.send_signal(signal.SIGHUP)

        async def logged() -> bool:
            return process.output.count("TLS uses the certificate in") == 2

        await eventually(logged, what="the new certificate")
        foreign = ssl.create_default_context(cafile=str(theirs.file))
        foreign.load_cert_chain(*theirs.issue("foreign"))
        (status, _), serial, _ = await in_thread(lambda: ask(ports.http, foreign, "/healthz"))
        assert status == 200
        assert await in_thread(lambda: refused(ports.http, context))
    finally:
        process.send_signal(signal.SIGTERM)
        ended = await process.end()
    assert bad_lines(ended.output) == []


@pytest_twisted.ensureDeferred
async def test_tokens_over_tls(tmp_path: Path, ports: Ports) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    tokens = tmp_path / "tokens"
    tokens.write_text(describe_token("dct_x", "x", ["read"]))
    process = Twistd(
        [
            *("-n", "--pidfile=", "dcounter", "--in-memory", "--inline", "--suspicion=5"),
            *(f"--http=tcp:{ports.http}", f"--node-port={ports.nodes[0]}", f"--tokens-file={tokens}"),
            *(f"--tls-cert={certificate}", f"--tls-key={key}"),
        ],
        tmp_path,
    )
    try:
        context = ssl.create_default_context(cafile=str(authority.file))

        async def listens() -> bool:
            assert process.running, process.output
            return is_open(ports.http)

        await eventually(listens, what="a daemon that listens")
        cases: list[tuple[dict[str, Any], int]] = [({}, 401), ({"Authorization": "Bearer dct_x"}, 200)]
        for headers, expected in cases:
            answer, _, _ = await in_thread(partial(ask, ports.http, context, "/cluster", **headers))
            assert answer[0] == expected
    finally:
        process.send_signal(signal.SIGTERM)
        await process.end()


@pytest_twisted.ensureDeferred
async def test_files_that_cannot_be_used_end_the_start(tmp_path: Path, ports: Ports) -> None:
    options = [f"--http=tcp:{ports.http}:interface=127.0.0.1", "--tls-cert=none", "--tls-key=none"]
    ended = await Twistd(["-n", "--pidfile=", "dcounter", *options], tmp_path).end()
    assert ended.code == 1
    none = tmp_path / "none"
    assert ended.output == (
        f"dcounter does not start: --tls-cert: {none} cannot be used: No such file or directory\n"
    )
    assert os.listdir(tmp_path) == []

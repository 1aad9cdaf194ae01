"""
The server on real sockets, and clients that others wrote.
"""

# Twisted's endpoints and TLS have no annotations.
# mypy: disable-error-code="no-untyped-call"

import datetime as dt
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import endpoints
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent, HTTPConnectionPool

from dcounter.http.limits import HttpLimits
from dcounter.http.server import Server, make_api
from dcounter.testing.http import MemoryStore

ITEMS = b'[{"ID":1,"tenant":"hello"},{"ID":2,"tenant":"hello"}]'


@asynccontextmanager
async def listening(where: str = "tcp:0:interface=127.0.0.1", **limits: Any) -> AsyncIterator[Any]:
    """
    A server there.
    """
    from twisted.internet import reactor

    api = make_api(MemoryStore(), limits=HttpLimits(**limits))
    server = Server(api, reactor=reactor, now=lambda: 0)
    port: Any = await endpoints.serverFromString(reactor, where).listen(server)
    try:
        yield port
    finally:
        await port.stopListening()
        await server.ended()


async def in_thread(function: Callable[[], Any]) -> Any:
    return await deferToThread(function)


@pytest_twisted.ensureDeferred
async def test_treq() -> None:
    from twisted.internet import reactor

    async with listening() as port:
        url = f"http://127.0.0.1:{port.getHost().port}"
        pool = HTTPConnectionPool(reactor)
        agent = Agent(reactor, pool=pool)
        for _ in range(3):
            response = await treq.post(f"{url}/items", ITEMS, agent=agent)
            assert (await treq.json_content(response))["items"] == 2
            response = await treq.get(f"{url}/items/hello/count", agent=agent)
            assert (await treq.json_content(response))["counter"] == 2
            response = await treq.head(f"{url}/items/hello/count", agent=agent)
            assert (response.code, await treq.content(response)) == (200, b"")
            response = await treq.get(f"{url}/nothing", agent=agent)
            assert (await treq.json_content(response))["code"] == "unknown_path"
        await pool.closeCachedConnections()


@pytest_twisted.ensureDeferred
async def test_http_client() -> None:
    def call(port: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for body in (ITEMS, iter([ITEMS[:5], ITEMS[5:]])):
            client.request("POST", "/items", body, encode_chunked=not isinstance(body, bytes))
            assert json.load(client.getresponse())["items"] == 2
        for path in ("/items/hello/count", "/nothing", "/healthz"):
            client.request("HEAD", path)
            assert client.getresponse().read() == b""
            client.request("GET", path)
            assert json.load(client.getresponse())
        client.request("GET", "/healthz", headers={"Connection": "close"})
        response = client.getresponse()
        assert response.will_close
        assert json.load(response) == {"status": "OK"}
        client.close()

    async with listening() as port:
        await in_thread(lambda: call(port.getHost().port))


@pytest_twisted.ensureDeferred
async def test_a_caller_that_closes_its_half_is_answered() -> None:
    def call(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
            caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
            caller.shutdown(socket.SHUT_WR)
            heard = b""
            while data := caller.recv(65_536):
                heard += data
            return heard

    async with listening() as port:
        heard = await in_thread(lambda: call(port.getHost().port))
        assert heard.count(b'{"status":"OK"}') == 3


@pytest_twisted.ensureDeferred
async def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "http"

    def call() -> bytes:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(10)
            caller.connect(str(path))
            # Any name will do: no browser reaches it.
            caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            heard = b""
            while data := caller.recv(65_536):
                heard += data
            return heard

    async with listening(f"unix:{path}"):
        heard = await in_thread(call)
        assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
        assert heard.endswith(b'{"status":"OK"}')


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """
    A file with a key and its certificate, signed by itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "both.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


# Twisted does, when it loads a certificate.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize(
    ("offered", "spoken"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)]
)
@pytest_twisted.ensureDeferred
async def test_tls_speaks_http_1_1_only(certificate: Path, offered: list[str], spoken: str | None) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    if offered:
        context.set_alpn_protocols(offered)

    def call(port: int) -> tuple[str | None, list[Any]]:
        client = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
        answers = []
        for body in (ITEMS, b" " * 200_000):
            client.request("POST", "/items", body)
            answers.append(json.load(client.getresponse()))
            assert client.sock is not None
        selected = client.sock.selected_alpn_protocol()
        client.close()
        return selected, answers

    where = f"ssl:0:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    async with listening(where) as port:
        selected, (stored, refused) = await in_thread(lambda: call(port.getHost().port))
        assert selected == spoken
        assert (stored["items"], refused["code"]) == (2, "malformed")

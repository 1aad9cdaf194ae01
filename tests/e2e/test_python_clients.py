"""
Clients of Python that others wrote, as their users use them, against a real daemon.

Those that users of the system have (curl, Node.js, Java) are in `tests/clients`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_twisted
import requests
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.e2e.conftest import CALM
from tests.e2e.harness import Daemon
from tests.support.clients import COUNTS, EXPECTED, IDLE, MAX_BODY, PAUSE_S, TOO_LARGE, one, pieces, thousand

Steps = dict[str, tuple[int, Any]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """
    A daemon that closes idle connections soon.
    """
    started: Any = Deferred.fromCoroutine(
        Daemon.start(tmp_path_factory.mktemp("daemon"), CALM, IDLE, MAX_BODY)
    )
    shared = pytest_twisted.blockon(started)
    yield shared
    pytest_twisted.blockon(Deferred.fromCoroutine(shared.stop()))


def with_requests(base: str, first: int, tenant: str) -> Steps:
    count = f"{base}/items/{tenant}/count"

    def said(response: requests.Response, name: str) -> tuple[int, Any]:
        return response.status_code, response.json()[name]

    with requests.Session() as session:

        def post(body: Any) -> requests.Response:
            return session.post(f"{base}/items", data=body, timeout=20)

        def get(path: str) -> requests.Response:
            return session.get(path, timeout=20)

        found = {
            "one item": said(post(one(first, tenant)), "items"),
            "1,000 items": said(post(thousand(first, tenant)), "items"),
            "1,000 items in chunks": said(post(pieces(thousand(first, tenant))), "items"),
        }
        (found["counts, one after the other"],) = {said(get(count), "counter") for _ in range(COUNTS)}
        with ThreadPoolExecutor(8) as threads:
            (found["counts, all at once"],) = {
                said(each, "counter") for each in threads.map(get, [count] * COUNTS)
            }
        head = session.head(f"{base}/healthz", timeout=20)
        found["HEAD"] = head.status_code, head.text
        found["no such path"] = said(get(f"{base}/nothing"), "code")
        found["an invalid item"] = said(post(b"[{}]"), "code")
        found["too large"] = said(post(TOO_LARGE), "code")
        get(count)
        time.sleep(PAUSE_S)
        found["after a pause"] = said(post(one(first, tenant)), "items")
    return found


def with_httpx(base: str, first: int, tenant: str) -> Steps:
    count = f"/items/{tenant}/count"

    def said(response: httpx.Response, name: str) -> tuple[int, Any]:
        return response.status_code, response.json()[name]

    with httpx.Client(base_url=base, timeout=20) as client:
        found = {
            "one item": said(client.post("/items", content=one(first, tenant)), "items"),
            "1,000 items": said(client.post("/items", content=thousand(first, tenant)), "items"),
            "1,000 items in chunks": said(
                client.post("/items", content=pieces(thousand(first, tenant))), "items"
            ),
        }
        (found["counts, one after the other"],) = {said(client.get(count), "counter") for _ in range(COUNTS)}
        with ThreadPoolExecutor(8) as threads:
            (found["counts, all at once"],) = {
                said(each, "counter") for each in threads.map(client.get, [count] * COUNTS)
            }
        head = client.head("/healthz")
        found["HEAD"] = head.status_code, head.text
        found["no such path"] = said(client.get("/nothing"), "code")
        found["an invalid item"] = said(client.post("/items", content=b"[{}]"), "code")
        found["too large"] = said(client.post("/items", content=TOO_LARGE), "code")
        client.get(count)
        time.sleep(PAUSE_S)
        found["after a pause"] = said(client.post("/items", content=one(first, tenant)), "items")
    return found


def with_aiohttp(base: str, first: int, tenant: str) -> Steps:
    async def chunks() -> AsyncIterator[bytes]:
        for each in pieces(thousand(first, tenant)):
            yield each

    async def steps() -> Steps:
        timeout = aiohttp.ClientTimeout(20)
        async with aiohttp.ClientSession(base, timeout=timeout) as session:

            async def said(method: str, path: str, name: str, **more: Any) -> tuple[int, Any]:
                async with session.request(method, path, **more) as response:
                    # It looks at the type: errors are application/problem+json.
                    return response.status, (await response.json(content_type=None))[name]

            async def post(name: str, body: Any, **more: Any) -> tuple[int, Any]:
                return await said("POST", "/items", name, data=body, **more)

            async def count() -> tuple[int, Any]:
                return await said("GET", f"/items/{tenant}/count", "counter")

            found = {
                "one item": await post("items", one(first, tenant), expect100=True),
                "1,000 items": await post("items", thousand(first, tenant)),
                "1,000 items in chunks": await post("items", chunks(), expect100=True),
            }
            (found["counts, one after the other"],) = {await count() for _ in range(COUNTS)}
            (found["counts, all at once"],) = set(await asyncio.gather(*(count() for _ in range(COUNTS))))
            async with session.head("/healthz") as head:
                found["HEAD"] = head.status, await head.text()
            found["no such path"] = await said("GET", "/nothing", "code")
            found["an invalid item"] = await post("code", b"[{}]")
            found["too large"] = await post("code", BytesIO(TOO_LARGE))
            await count()
            await asyncio.sleep(PAUSE_S)
            found["after a pause"] = await post("items", one(first, tenant))
            return found

    return asyncio.run(steps())


@pytest.mark.parametrize("client", [with_requests, with_httpx, with_aiohttp])
@pytest_twisted.ensureDeferred
async def test_all_steps(daemon: Daemon, client: Callable[[str, int, str], Steps]) -> None:
    first = daemon.new_ids(1_001)[0]
    found = await deferToThread(client, f"http://127.0.0.1:{daemon.ports.http}", first, f"t{first}")
    assert found == EXPECTED

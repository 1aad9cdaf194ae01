"""
What the original promised of storing and counting (S3 to S6, S9 to S11), over HTTP.
"""

import pytest_twisted

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon


@pytest_twisted.ensureDeferred
async def test_s03_readme_of_the_original(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    await client.store([{"ID": 1, "tenant": "hello"}, {"ID": 2, "tenant": "publicsonar"}])
    assert await client.count("hello") == 1
    assert await client.count("publicsonar") == 1
    await client.store([{"ID": 1, "tenant": "publicsonar"}])
    assert await client.count("hello") == 0
    assert await client.count("publicsonar") == 2
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s03_id_is_accepted_for_ID(daemon: Daemon, client: Client) -> None:
    first, second = daemon.new_ids(2)
    await client.store([{"id": first, "tenant": "s03-lower"}, {"ID": second, "tenant": "s03-lower"}])
    assert await client.count("s03-lower") == 2
    await client.store([{"ID": first, "tenant": "s03-moved"}])
    assert await client.counts(["s03-lower", "s03-moved"]) == {"s03-lower": 1, "s03-moved": 1}

"""
FastAPI and PostgreSQL: one upsert per POST, one `count(*)` on an index per count.

A table of counters would make counts a look-up, but its rows are locks: sixteen writers of 100 items
each would wait for all 100 tenants' rows until the one before has synced. So POSTs are as fast as they
can be here, and counts are slower the more items a tenant has.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import msgspec
from fastapi import FastAPI, Request, Response

from benchmarks.peers.items import decode, stamps

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS items (id bigint PRIMARY KEY, tenant text NOT NULL, stamp bigint NOT NULL);
CREATE INDEX IF NOT EXISTS items_tenant ON items (tenant);
"""
# In the order of the IDs: otherwise two requests lock the same rows crosswise.
_STORE: Final = """
INSERT INTO items
SELECT DISTINCT ON (id) id, tenant, stamp
FROM unnest($1::bigint[], $2::text[], $3::bigint[]) WITH ORDINALITY AS new (id, tenant, stamp, number)
ORDER BY id, stamp DESC, number DESC
ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, stamp = excluded.stamp
WHERE (excluded.stamp, excluded.tenant) > (items.stamp, items.tenant)
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["BENCH_POSTGRES"], min_size=16, max_size=16) as pool:
        await pool.execute(_TABLE)
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/items")
async def store(request: Request) -> Response:
    try:
        items = decode(await request.body())
    except msgspec.ValidationError as error:
        return _answer({"error": str(error)}, status=422)
    await app.state.pool.execute(
        _STORE, [item.ID for item in items], [item.tenant for item in items], stamps(items)
    )
    return _answer({"status": "OK", "items": len(items)})


@app.get("/items/{tenant}/count")
async def count(tenant: str) -> Response:
    counter = await app.state.pool.fetchval("SELECT count(*) FROM items WHERE tenant = $1", tenant)
    return _answer({"counter": counter, "tenant": tenant})


def _answer(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")

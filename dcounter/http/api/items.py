"""
Stores items and counts them.
"""

from typing import cast

from msgspec import UNSET

from dcounter.http.answer_bodies import Counted, Stored
from dcounter.http.call import Api, Call
from dcounter.http.items import parse_items
from dcounter.http.problems import Answer, ok
from dcounter.store import Ack, Consistency


async def store_items(api: Api, call: Call) -> Answer:
    """
    `POST /items`
    """
    items = parse_items(
        call.body,
        latest=api.store.latest_stamp,
        max_items=api.limits.max_items,
        max_tenant_bytes=api.limits.max_tenant_bytes,
    )
    receipt = await api.store.store(
        items,
        ack=cast("Ack", call.parameters.get("ack", api.ack)),
        after=call.parameters.get("after"),
    )
    warning = UNSET if receipt.warning is None else receipt.warning
    return ok(Stored("OK", receipt.items, receipt.ack, receipt.position, warning))


async def count_items(api: Api, call: Call) -> Answer:
    """
    `GET /items/{tenant}/count`
    """
    tenant = call.parameters["tenant"]
    count = await api.store.count(
        tenant,
        consistency=cast("Consistency", call.parameters.get("consistency", api.consistency)),
        after=call.parameters.get("after"),
    )
    if count.complete:
        return ok(Counted(count.counter, tenant, count.position))
    return ok(Counted(count.counter, tenant, count.position, complete=False, missing=count.missing))

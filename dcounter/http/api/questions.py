"""
Answers questions about items and tenants.
"""

import re
from typing import Any, Final, cast

from msgspec import UNSET, UnsetType

from dcounter.http.answer_bodies import (
    CountedMany,
    CountedPrefix,
    CountOf,
    FoundItem,
    FoundItems,
    ListedItems,
    ListedTenants,
    Statistics,
    StoredItem,
)
from dcounter.http.call import Api, Call
from dcounter.http.item_fields import FieldError
from dcounter.http.items import parse_id, parse_ids
from dcounter.http.lists import parse_tenants
from dcounter.http.problems import Answer, BadParameter, BadPath, UnknownItem, ok
from dcounter.stamps import show_stamp
from dcounter.store import Answered, Consistency, Item, Order

_INTEGER: Final = re.compile("-?[0-9]{1,19}")
_USUAL_LIMIT: Final = 100


async def show_item(api: Api, call: Call) -> Answer:
    """
    `GET /items/{ID}`
    """
    try:
        item = parse_id(call.parameters["ID"])
    except FieldError as error:
        raise BadPath(f"the ID {error}") from error
    looked = await api.store.look_up([item], **_asked(api, call))
    [found] = looked.items
    if found is None or not call.principal.may_read(found.tenant):
        raise UnknownItem(item, looked)
    shown = _shown(found)
    return ok(FoundItem(shown.ID, shown.tenant, shown.lastUpdateDt, looked.position, *_gaps(looked)))


async def look_up_items(api: Api, call: Call) -> Answer:
    """
    `POST /items/lookup`
    """
    ids = parse_ids(call.body, max_items=api.limits.max_listed, reads=True)
    looked = await api.store.look_up(ids, **_asked(api, call))
    mine = [
        None if each is None or not call.principal.may_read(each.tenant) else each for each in looked.items
    ]
    found = [_shown(each) for each in mine if each is not None]
    unknown = [item for item, each in zip(ids, mine, strict=True) if each is None]
    return ok(FoundItems(found, unknown, looked.position, *_gaps(looked)))


async def count_many(api: Api, call: Call) -> Answer:
    """
    `POST /counts`
    """
    limits = api.limits
    tenants = parse_tenants(call.body, most=limits.max_listed, most_bytes=limits.max_tenant_bytes)
    for tenant in tenants:
        call.require_tenant(tenant)
    counts = await api.store.count_many(tenants, **_asked(api, call))
    counted = [CountOf(tenant, counter) for tenant, counter in zip(tenants, counts.counters, strict=True)]
    return ok(CountedMany(counted, counts.position, *_gaps(counts)))


async def count_prefix(api: Api, call: Call) -> Answer:
    """
    `GET /counts`
    """
    prefix = call.parameters.get("prefix", "")
    found = await api.store.count_prefix(prefix, **_asked(api, call))
    return ok(CountedPrefix(prefix, found.counter, found.tenants, found.position, *_gaps(found)))


async def list_tenants(api: Api, call: Call) -> Answer:
    """
    `GET /tenants`
    """
    page = await api.store.list_tenants(
        order=cast("Order", call.parameters.get("sort", "name")),
        prefix=call.parameters.get("prefix", ""),
        limit=_limit(api, call),
        cursor=call.parameters.get("cursor"),
        **_asked(api, call),
    )
    listed = [CountOf(tenant, counter) for tenant, counter in page.tenants]
    return ok(ListedTenants(listed, page.position, _cursor(page.cursor), *_gaps(page)))


async def list_items(api: Api, call: Call) -> Answer:
    """
    `GET /tenants/{tenant}/items`
    """
    tenant = call.parameters["tenant"]
    page = await api.store.list_items(
        tenant, limit=_limit(api, call), cursor=call.parameters.get("cursor"), **_asked(api, call)
    )
    return ok(ListedItems(tenant, page.ids, page.position, _cursor(page.cursor), *_gaps(page)))


async def statistics(api: Api, call: Call) -> Answer:
    """
    `GET /stats`
    """
    found = await api.store.statistics(**_asked(api, call))
    return ok(
        Statistics(
            found.items,
            found.tenants,
            found.tombstones,
            found.memory_bytes,
            found.memory_bytes_of_ten,
            found.disk_bytes,
            found.position,
            *_gaps(found),
        )
    )


def _limit(api: Api, call: Call) -> int:
    """
    How many a page may have.

    :raises BadParameter: the parameter is no such number.
    """
    most = api.limits.max_listed
    text = call.parameters.get("limit", str(min(_USUAL_LIMIT, most)))
    if not (_INTEGER.fullmatch(text) and 1 <= int(text) <= most):
        raise BadParameter(f"limit must be an integer from 1 to {most}; it is {text!r}")
    return int(text)


def _cursor(cursor: str | None) -> str | UnsetType:
    return UNSET if cursor is None else cursor


def _asked(api: Api, call: Call) -> dict[str, Any]:
    """
    How a question is asked.
    """
    return {
        "consistency": cast("Consistency", call.parameters.get("consistency", api.consistency)),
        "after": call.parameters.get("after"),
    }


def _gaps(answered: Answered) -> tuple[Any, Any]:
    """
    The fields `complete` and `missing` of an answer.
    """
    return (UNSET, UNSET) if answered.complete else (False, answered.missing)


def _shown(item: Item) -> StoredItem:
    return StoredItem(item.id, item.tenant, show_stamp(item.stamp))

"""
Stores, deletes and counts items.
"""

from collections.abc import Awaitable
from typing import cast

from msgspec import UNSET
from msgspec.structs import replace

from dcounter.errors import NOTHING_STORED, MalformedBody, NotSupportedHere, TooManyItems
from dcounter.http.answer_bodies import Counted, Stored
from dcounter.http.call import Api, Call, require_scope
from dcounter.http.decoding import decoder_for
from dcounter.http.item_fields import FieldError, check_stamp
from dcounter.http.items import ValidItems, parse_id, parse_ids, parse_items, parse_valid_items
from dcounter.http.loads import CONTENT_TYPE, Load, media_type
from dcounter.http.problems import Answer, BadParameter, BadPath, NoIdempotencyKey, ok
from dcounter.http.streams import WholeBody
from dcounter.store import Ack, Changes, Consistency, Items, Receipt


def store_items(api: Api, call: Call) -> Awaitable[Answer]:
    """
    `POST /items`
    """
    if call.parameters and call.parameters.get("partial") == "1":
        return _store_valid(api, call)
    try:
        items = parse_items(
            call.body,
            latest=api.store.latest_stamp,
            max_items=api.limits.max_items,
            max_tenant_bytes=api.limits.max_tenant_bytes,
        )
    except MalformedBody:
        if call.body or media_type(call.headers) != CONTENT_TYPE:
            raise
        # The type of a body is looked at where there is one. This is a load without lines.
        call.stream = WholeBody(b"")
        return load_items(api, call)
    return _store(api, call, items)


def delete_items(api: Api, call: Call) -> Awaitable[Answer]:
    """
    `POST /items/delete`
    """
    ids = parse_ids(call.body, max_items=api.limits.max_items)
    return _store(api, call, Items(ids, [None] * len(ids)))


def delete_item(api: Api, call: Call) -> Awaitable[Answer]:
    """
    `DELETE /items/{ID}`
    """
    try:
        item = parse_id(call.parameters["ID"])
    except FieldError as error:
        raise BadPath(f"ID {error}") from None
    return _store(api, call, Items([item], [None]))


def _store_valid(api: Api, call: Call) -> Awaitable[Answer]:
    """
    Store the valid items of a request.
    """
    found = parse_valid_items(
        call.body,
        latest=api.store.latest_stamp,
        max_items=api.limits.max_items,
        max_tenant_bytes=api.limits.max_tenant_bytes,
    )
    return _store(api, call, found.items, found)


async def _store(api: Api, call: Call, items: Items, found: ValidItems | None = None) -> Answer:
    """
    Store items, as the parameters say.

    :param found: what they were found among, if the others are to be told of.
    """
    if b"idempotency-key" in call.headers:
        raise NoIdempotencyKey
    if call.parameters:
        receipt = await _store_as_told(api, call, items)
    else:
        receipt = await api.store.store(items, ack=api.ack)
    api.figures.stored(receipt.items)
    warning = UNSET if receipt.warning is None else receipt.warning
    stored = Stored("OK", receipt.items, receipt.ack, receipt.position, warning)
    if receipt.changes is not None:
        stored = _with_changes(stored, receipt.changes)
    if found is None or not found.invalid:
        return ok(stored)
    in_part = replace(stored, status="PARTIAL", invalid=found.invalid, errors=found.errors)
    return replace(ok(in_part), status=207)


def _store_as_told(api: Api, call: Call, items: Items) -> Awaitable[Receipt]:
    parameters = call.parameters
    if "lastUpdateDt" in parameters:
        items = items.stamped(read_stamp(api, call))
    changes = parameters.get("receipt") == "1"
    if changes and api.tokens is not None:
        # Receipts tell what was there, and the counts of tenants.
        require_scope("read", call.principal, "receipt=1")
    if changes and "receipts" not in api.store.capabilities:
        raise NotSupportedHere(f"this store cannot say what a request changes{NOTHING_STORED}")
    if changes and len(items) > api.limits.max_receipt_items:
        raise TooManyItems(
            f"the request has {len(items)} items; with receipt=1 the limit is {api.limits.max_receipt_items}"
        )
    ack = cast("Ack", parameters.get("ack", api.ack))
    return api.store.store(items, ack=ack, after=parameters.get("after"), changes=changes)


def _with_changes(stored: Stored, changes: Changes) -> Stored:
    told = replace(stored, receipts=changes.items, counts=UNSET if changes.counts is None else changes.counts)
    return told if changes.complete else replace(told, complete=False, missing=changes.missing)


def read_stamp(api: Api, call: Call) -> int | None:
    """
    The stamp in a query; `None` if there is none, or it counts as absent.

    :raises BadParameter: it is not a valid one.
    """
    text = call.parameters.get("lastUpdateDt")
    if text is None:
        return None
    try:
        return check_stamp(text, api.store.latest_stamp)
    except FieldError as error:
        raise BadParameter(f"lastUpdateDt {error}") from None


async def load_items(api: Api, call: Call) -> Answer:
    """
    `POST /items` with lines
    """
    assert call.stream is not None
    if b"idempotency-key" in call.headers:
        raise NoIdempotencyKey
    load = Load(
        api,
        ack=cast("Ack", call.parameters.get("ack", api.ack)),
        after=call.parameters.get("after"),
        stamp=read_stamp(api, call),
        partial=call.parameters.get("partial") == "1",
    )
    return await load.run(call.stream, decoder_for(call.headers, api.limits))


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

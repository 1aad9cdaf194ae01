"""
Shows the nodes, and operates on them.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from dcounter.errors import MalformedBody
from dcounter.http.answer_bodies import Compacted, Operated
from dcounter.http.api.operating import log_request, operator_of
from dcounter.http.bodies import STAMP
from dcounter.http.call import Api, Call
from dcounter.http.item_fields import FieldError, check_stamp
from dcounter.http.problems import Answer, ok
from dcounter.stamps import show_stamp


class OneNode(Struct, forbid_unknown_fields=True):
    """
    The body of an operation on a node.
    """

    node: int


_one_node = msgspec.json.Decoder(OneNode)


async def show(api: Api, call: Call) -> Answer:
    """
    `GET /cluster`
    """
    return ok(operator_of(api).status())


async def restart(api: Api, call: Call) -> Answer:
    """
    `POST /cluster/restart`
    """
    return await _operate("restart", operator_of(api).restart, call)


async def remove(api: Api, call: Call) -> Answer:
    """
    `POST /cluster/remove`
    """
    return await _operate("remove", operator_of(api).remove, call)


class Before(Struct, forbid_unknown_fields=True):
    """
    The body of a request to compact.

    :ivar before: deletions up to this time are forgotten, RFC 3339; left out: one hour ago.
    """

    before: Annotated[str, Meta(extra_json_schema=STAMP)] | None = None


_before = msgspec.json.Decoder(Before)


async def compact(api: Api, call: Call) -> Answer:
    """
    `POST /compact`
    """
    operator = operator_of(api)
    try:
        text = _before.decode(call.body).before
        before = None if text is None else check_stamp(text, api.store.latest_stamp)
    except FieldError as error:
        raise MalformedBody(f"before {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f'the body must be {{"before": "<time>"}} or {{}}: {error}') from error
    log_request(call, "to compact")
    return ok(Compacted("OK", show_stamp(await operator.compact(before))))


async def _operate(name: str, operation: Callable[[int], Awaitable[None]], call: Call) -> Answer:
    try:
        node = _one_node.decode(call.body).node
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f'the body must be {{"node": <number>}}: {error}') from error
    log_request(call, f"to {name} node {node}")
    await operation(node)
    return ok(Operated("OK", node))

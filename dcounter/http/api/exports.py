"""
Gives everything that is stored, as lines that can be stored again.
"""

from collections.abc import AsyncGenerator
from typing import Final, cast

import msgspec
from msgspec import UNSET

from dcounter.http.call import Api, Call
from dcounter.http.dumps import FORM, End, Header
from dcounter.http.encoding import compressed, compressor, encoding_for
from dcounter.http.loads import CONTENT_TYPE
from dcounter.http.problems import Answer, Forbidden, TooManyExports
from dcounter.store import Consistency

_encode: Final = msgspec.json.Encoder().encode


async def export(api: Api, call: Call) -> Answer:
    """
    `GET /export`
    """
    if call.parameters.get("deleted") == "1" and call.principal.prefixes:
        raise Forbidden(
            f"the token {call.principal.name!r} is bound to some tenants, and deleted IDs are of none: leave"
            " deleted=1 out"
        )
    encoding = encoding_for(call.headers)
    parts = _parts(api, call, encoding)
    # Refusals come before the answer begins. And a generator that has begun is closed properly in any case.
    await anext(parts)
    headers = [(b"Vary", b"Accept-Encoding")]
    if encoding != "identity":
        headers.append((b"Content-Encoding", encoding.encode()))
    return Answer(200, b"", CONTENT_TYPE, headers, parts)


async def _parts(api: Api, call: Call, encoding: str) -> AsyncGenerator[bytes, None]:
    """
    The parts of the answer, after an empty one.
    """
    room = api.room_for_exports
    if not room.tokens:
        raise TooManyExports(room.limit)
    await room.acquire()
    try:
        deleted = call.parameters.get("deleted") == "1"
        found = await api.store.export(
            deleted=deleted,
            prefixes=call.principal.prefixes,
            consistency=cast("Consistency", call.parameters.get("consistency", api.consistency)),
            after=call.parameters.get("after"),
        )
        try:
            yield b""
            by = compressor(encoding)
            header = Header(
                FORM,
                found.position,
                UNSET if found.items is None else found.items,
                deleted,
                *((UNSET, UNSET) if found.complete else (False, found.missing)),
            )
            yield by.compress(_encode(header) + b"\n")
            rows = 0
            async for piece in found.pieces:
                rows += piece.rows
                for part in compressed(piece.lines, by):
                    yield part
            yield by.compress(_encode(End(end=True, rows=rows)) + b"\n") + by.flush()
        finally:
            await found.pieces.aclose()
    finally:
        room.release()

"""
Tells watchers what changes.
"""

from typing import Final

from dcounter.events import Wanted
from dcounter.http.answer_bodies import Hello
from dcounter.http.auth import OPERATOR
from dcounter.http.call import Api, Call
from dcounter.http.event_stream import CONTENT_TYPE, EventStream
from dcounter.http.problems import Answer, BadParameter, TooManyWatchers

_VERSION: Final = 1
"""
The version of the events. It changes if readers of this one would misread them.
"""

_HEADERS: Final = ((b"X-Accel-Buffering", b"no"),)
"""
nginx, and what is made like it, would otherwise collect events before it hands them on.
"""


async def watch(api: Api, call: Call) -> Answer:
    """
    `GET /events`
    """
    wanted = _wanted(call)
    ids = call.headers.get(b"last-event-id", ())
    # A browser repeats the last id that it has read, and an empty one says that it has read none.
    since = ids[-1].decode("latin-1") or None if ids else None
    room = api.room_for_watchers
    if not room.tokens:
        raise TooManyWatchers(room.limit)
    await room.acquire()
    try:
        feed = await api.store.watch(wanted, since=since)
    except BaseException:
        room.release()
        raise
    hello = Hello(
        position=feed.position,
        version=_VERSION,
        resumed=feed.resumed,
        tenants=wanted.tenants,
        prefixes=wanted.prefixes or None,
        nodes=wanted.nodes,
    )
    stream = EventStream(
        feed,
        hello,
        anew=since is not None and not feed.resumed,
        permitted=lambda: _permitted(api, call),
        left=room.release,
    )
    return Answer(200, b"", CONTENT_TYPE, _HEADERS, stream, lasting=True)


def _wanted(call: Call) -> Wanted:
    """
    The events that a request asks for, and that its token permits.

    :raises BadParameter: it asks for tenants and for a prefix.
    """
    tenants, prefix = call.many.get("tenant") or None, call.parameters.get("prefix")
    bound = call.principal.prefixes
    if tenants is not None and prefix is not None:
        raise BadParameter("give either tenant or prefix, not both")
    if tenants is not None:
        return Wanted(tuple(dict.fromkeys(tenants)), nodes=not bound)
    return Wanted(prefixes=bound if prefix is None else (prefix,), nodes=not bound)


def _permitted(api: Api, call: Call) -> bool:
    """
    Whether the token of a request that was permitted still has the same rights to read.
    """
    principal = call.principal
    if api.tokens is None or principal is OPERATOR:
        return True
    found = api.tokens.find(call.headers[b"authorization"][0])
    return (
        found is not None
        and not api.tokens.is_expired(found)
        and found.principal.scopes >= principal.scopes
        and found.principal.prefixes == principal.prefixes
    )

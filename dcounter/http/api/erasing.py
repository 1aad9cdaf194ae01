"""
Deletes a tenant with everything that it owns.
"""

from typing import cast

from twisted.logger import Logger

from dcounter.http.answer_bodies import Erased
from dcounter.http.api.items import read_stamp
from dcounter.http.call import Api, Call
from dcounter.http.problems import Answer, NoIdempotencyKey, ok
from dcounter.http.tracing import in_words, names
from dcounter.stamps import show_stamp
from dcounter.store import Ack

_log = Logger()


async def erase_tenant(api: Api, call: Call) -> Answer:
    """
    `DELETE /tenants/{tenant}`
    """
    if b"idempotency-key" in call.headers:
        raise NoIdempotencyKey
    tenant, stamp = call.parameters["tenant"], call.parameters.get("lastUpdateDt")
    done = await api.store.erase(
        tenant,
        ack=cast("Ack", call.parameters.get("ack", api.ack)),
        after=call.parameters.get("after"),
        stamp=None if stamp is None else read_stamp(api, stamp),
    )
    _log.info(
        "{principal} deleted a tenant with {deleted} items{named}",
        principal=call.principal.name,
        deleted=done.deleted,
        named=in_words(names(call.headers)),
    )
    return ok(Erased("OK", tenant, done.deleted, show_stamp(done.stamp), done.ack, done.position))

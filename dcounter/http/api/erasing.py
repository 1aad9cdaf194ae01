"""
Deletes a tenant with everything that it owns.
"""

from typing import cast

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from dcounter.errors import EraseStopped, NotReplicated
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
    tenant = call.parameters["tenant"]
    principal, named = call.principal.name, in_words(names(call.headers))
    try:
        done = await api.store.erase(
            tenant,
            ack=cast("Ack", call.parameters.get("ack", api.ack)),
            after=call.parameters.get("after"),
            stamp=read_stamp(api, call),
        )
    except CancelledError:
        _log.warn(
            "{principal} hung up while a tenant was deleted: perhaps a part of its items is deleted{named}",
            principal=principal,
            named=named,
        )
        raise
    except (EraseStopped, NotReplicated) as error:
        _log.warn(
            "{principal} did not delete a tenant as asked: {error}{named}",
            principal=principal,
            error=error,
            named=named,
        )
        raise
    _log.info(
        "{principal} deleted a tenant with {deleted} items{named}",
        principal=principal,
        deleted=done.deleted,
        named=named,
    )
    return ok(Erased("OK", tenant, done.deleted, show_stamp(done.stamp), done.ack, done.position))

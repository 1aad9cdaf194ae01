"""
Audits all copies of the items, and repairs them.
"""

from twisted.logger import Logger

from dcounter.errors import NotSupported
from dcounter.http.audit_bodies import all_shown, shown
from dcounter.http.call import Api, Call
from dcounter.http.lists import parse_audit
from dcounter.http.problems import Answer, ok
from dcounter.http.tracing import in_words, names

_log = Logger()


async def audit(api: Api, call: Call) -> Answer:
    """
    `POST /audit`
    """
    limits = api.limits
    wanted = parse_audit(call.body, most=limits.max_listed, most_bytes=limits.max_tenant_bytes)
    rebuild = None
    if wanted.repair:
        if api.operator is None:
            raise NotSupported("this daemon has no nodes")
        rebuild = api.operator.rebuild
        _log.info(
            "{principal} at {peer} asked for an audit that repairs{named}",
            principal=call.principal.name,
            peer=getattr(call.peer, "host", "a Unix socket"),
            named=in_words(names(call.headers)),
        )
    return ok(shown(await api.store.audit(wanted.tenants, rebuild)))


async def show(api: Api, call: Call) -> Answer:
    """
    `GET /audit`
    """
    return ok(all_shown(api.store.audits()))

"""
Audits all copies of the items, and repairs them.
"""

from dcounter.http.api.operating import log_request, operator_of
from dcounter.http.audit_bodies import all_shown, shown
from dcounter.http.call import Api, Call
from dcounter.http.lists import parse_audit
from dcounter.http.problems import Answer, ok


async def audit(api: Api, call: Call) -> Answer:
    """
    `POST /audit`
    """
    limits = api.limits
    wanted = parse_audit(call.body, most=limits.max_listed, most_bytes=limits.max_tenant_bytes)
    rebuild = None
    if wanted.repair:
        rebuild = operator_of(api).rebuild
        log_request(call, "for an audit that repairs")
    return ok(shown(await api.store.audit(wanted.tenants, rebuild)))


async def show(api: Api, call: Call) -> Answer:
    """
    `GET /audit`
    """
    return ok(all_shown(api.store.audits()))

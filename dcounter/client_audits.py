"""
The part of the HTTP client that audits.
"""

from collections.abc import Collection
from typing import Any, Final

from dcounter.client_requests import Requests
from dcounter.http.audit_bodies import AuditResult, AuditsShown

_AUDIT_TIMEOUT: Final = 7_200.0
"""
Time (s) for an audit, and for the repair of nodes.
"""


class AuditCalls(Requests):
    """
    Asks a daemon to audit its nodes.
    """

    async def audit(
        self, tenants: Collection[str] = (), *, repair: bool = False, within: float = _AUDIT_TIMEOUT
    ) -> AuditResult:
        """
        Count everything anew, and compare all nodes.

        :param tenants: these tenants' counts are part of the answer.
        :param repair: make a node anew that is found to be wrong.
        :param within: time (s) for the request. The audit goes on without its caller.
        """
        body: dict[str, Any] = {"tenants": [*tenants], "repair": repair}
        return (await self.ask("POST", "/audit", json=body, within=within)).read(AuditResult)

    async def audits(self) -> AuditsShown:
        """
        The audit that runs, and the last one.
        """
        return (await self.ask("GET", "/audit")).read(AuditsShown)

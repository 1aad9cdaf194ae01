"""
The methods of the HTTP client whose requests take as long as they take. `dcounter.client` has all of them.
"""

from typing import Final
from urllib.parse import quote

from dcounter.client_requests import Requests, of_store
from dcounter.http.answer_bodies import Compacted, Erased
from dcounter.stamps import show_stamp
from dcounter.store import Ack

_PATIENCE: Final = 3_700.0
"""
Time (s) for such a request and its answer.
"""


class Upkeep(Requests):
    """
    Long requests to one daemon.
    """

    async def erase(
        self,
        tenant: str,
        *,
        ack: Ack | None = None,
        after: str | None = None,
        stamp: int | None = None,
        within: float = _PATIENCE,
    ) -> Erased:
        """
        Delete a tenant with everything that it owns.

        :param ack: which nodes must have written that before the answer.
        :param after: a position: what it covers is deleted, too.
        :param stamp: the stamp (ns since 1970) of an earlier attempt: what was stored after it stays.
        :param within: time (s) for the request and its answer.
        """
        parameters = of_store(ack, after, stamp)
        path = f"/tenants/{quote(tenant, safe='')}"
        return (await self.ask("DELETE", path, parameters=parameters, within=within)).read(Erased)

    async def compact(self, *, before: int | None = None, within: float = _PATIENCE) -> Compacted:
        """
        Have the nodes forget old deletions.

        :param before: those up to this stamp (ns since 1970); `None`: up to one hour ago.
        :param within: time (s) for the request and its answer.
        """
        body = {} if before is None else {"before": show_stamp(before)}
        return (await self.ask("POST", "/compact", json=body, within=within)).read(Compacted)

"""
Deleting a tenant with everything that it owns: the part of a `dcounter.store.Store` that does it.
"""

from typing import Protocol

from msgspec import Struct

from dcounter.errors import NotSupportedHere
from dcounter.words import Ack


class Erased(Struct, frozen=True):
    """
    The answer to the deletion of a tenant.

    :ivar deleted: how many items were deleted.
    :ivar stamp: the stamp (ns since 1970) of the request: what the tenant owned then is deleted.
    :ivar position: the token with which a later read or write sees it.
    """

    deleted: int
    stamp: int
    ack: Ack
    position: str


class Erasing(Protocol):
    """
    What can delete a tenant. An engine that cannot need not define it.
    """

    async def erase(
        self, tenant: str, *, ack: Ack, after: str | None = None, stamp: int | None = None
    ) -> Erased:
        """
        Delete everything that a tenant owns at the moment of a stamp; what has a later stamp stays.

        Repeating it with the same stamp is harmless, also after a failure. It takes as long as it takes.

        :param after: a position token: everything that it covers is deleted, too.
        :param stamp: the stamp (ns since 1970) of an earlier attempt; `None`: that of this moment.
        :raises EraseStopped: a part of the items is deleted, perhaps.
        """
        raise NotSupportedHere("this store cannot delete a tenant with all its items")

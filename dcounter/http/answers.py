"""
What successful requests are answered: for the functions of routes to make, and for `dcounter.client` to read.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from dcounter.store import Ack


class Stored(Struct, frozen=True):
    """
    The answer to a request to store.

    :ivar items: how many items the request held.
    :ivar ack: which nodes have written them.
    :ivar position: the token that makes a later read or write see this one.
    :ivar warning: what the caller should know although the items are stored.
    """

    status: Literal["OK"]
    items: int
    ack: Ack
    position: str
    warning: str | UnsetType = UNSET


class Counted(Struct, frozen=True):
    """
    The answer to a count.

    :ivar complete: `False` if the count is not exact; an exact one does not say so.
    :ivar missing: ids of the nodes whose items cannot be accounted for, if it is not exact.
    """

    counter: int
    tenant: str
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class Operated(Struct, frozen=True):
    """
    The answer to a request about a node.
    """

    status: Literal["OK"]
    node: int


class Alive(Struct, frozen=True):
    """
    The answer of a process that lives.
    """

    status: Literal["OK"]


class Ready(Struct, frozen=True):
    """
    The answer of a daemon to which callers may be sent.

    :ivar exact: counts are exact.
    :ivar missing: ids of the members that have not reported or are unavailable.
    :ivar warnings: what an operator has to look at, one sentence each.
    """

    exact: bool
    missing: Sequence[int]
    warnings: Sequence[str]

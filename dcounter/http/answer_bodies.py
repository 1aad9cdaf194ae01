"""
The answers to successful requests. Functions of routes make them, and `dcounter.client` reads them.

This module is public (docs/extending.md).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from dcounter.errors import ItemError
from dcounter.store import Ack, Change


class Stored(Struct, frozen=True):
    """
    The answer to a request to store or to delete.

    :ivar status: `PARTIAL` if items were invalid, and skipped.
    :ivar items: how many items the request named; without those that were skipped.
    :ivar ack: which nodes have written them.
    :ivar position: the token with which a later read or write sees this one.
    :ivar warning: what the caller should know, although the items are stored.
    :ivar receipts: with `receipt=1`: what became of each item that was not skipped.
    :ivar counts: with `receipt=1`: how many items each tenant owns that the request names or took items from;
        left out if that is too much for one answer.
    :ivar complete: `False` if receipts and counts are not exact; left out otherwise.
    :ivar missing: ids of the nodes whose items may be missing from them; left out if they are exact.
    :ivar invalid: how many items were skipped; left out if none was.
    :ivar errors: the first 100 mistakes in them; left out if none was skipped.
    """

    status: Literal["OK", "PARTIAL"]
    items: int
    ack: Ack
    position: str
    warning: str | UnsetType = UNSET
    receipts: Sequence[Change] | UnsetType = UNSET
    counts: Mapping[str, int] | UnsetType = UNSET
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET
    invalid: int | UnsetType = UNSET
    errors: Sequence[ItemError] | UnsetType = UNSET


class LineError(Struct, frozen=True):
    """
    What is wrong with a line of a load.

    :ivar line: its number, from 1.
    :ivar field: the JSON field, or an empty text if the line as a whole is wrong.
    """

    line: int
    field: str
    message: str


class Loaded(Struct, frozen=True):
    """
    The answer to a load.

    :ivar status: `PARTIAL` if lines were invalid, and skipped.
    :ivar items: how many items are stored.
    :ivar lines: how many lines the load had, empty ones included.
    :ivar ack: which nodes have written them.
    :ivar position: the token with which a later read or write sees all of them.
    :ivar warning: what the caller should know, although the items are stored.
    :ivar invalid: how many lines were skipped; left out if none was.
    :ivar errors: what is wrong with the first 100 of them; left out if none was.
    """

    status: Literal["OK", "PARTIAL"]
    items: int
    lines: int
    ack: Ack
    position: str
    warning: str | UnsetType = UNSET
    invalid: int | UnsetType = UNSET
    errors: Sequence[LineError] | UnsetType = UNSET


class Counted(Struct, frozen=True):
    """
    The answer to a count.

    :ivar complete: `False` if the count is not exact; left out if it is.
    :ivar missing: ids of the nodes whose items may be missing from the count; left out if it is exact.
    """

    counter: int
    tenant: str
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class Operated(Struct, frozen=True):
    """
    The answer to an operation on a node.
    """

    status: Literal["OK"]
    node: int


class Alive(Struct, frozen=True):
    """
    The answer of a running process.
    """

    status: Literal["OK"]


class Ready(Struct, frozen=True):
    """
    The answer of a daemon that is ready for requests.

    :ivar exact: whether counts are exact.
    :ivar missing: ids of the members that have not reported since the start, or whose items no live node can
        account for.
    :ivar warnings: what an operator should look at, one sentence each.
    """

    exact: bool
    missing: Sequence[int]
    warnings: Sequence[str]

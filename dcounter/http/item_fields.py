"""
The fields of an item: what types do not say about them, and how to read them one by one.

Slow, but exact: here is what each mistake is called. `dcounter.http.items` reads most items at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from dcounter.errors import ItemError
from dcounter.stamps import InvalidStamp, parse_stamp
from dcounter.store import Items

SMALLEST_ID: Final = -(2**63)
LARGEST_ID: Final = 2**63 - 1
_ABSENT_STAMP: Final = "0001-01-01T00:00:00Z"

_NAMES: Final = ("id", "tenant", "lastupdatedt", "deleted")
_LONGEST_NAME: Final = max(map(len, _NAMES))
LONG_S: Final = "\u017f"
"""
The long s: the only letter beyond ASCII that folds to a letter of our names.
"""


class FieldError(ValueError):
    """
    A field of an item is invalid; the text completes the sentence "the field ...".
    """


def check_stamp(value: object, latest: Callable[[], int]) -> int | None:
    """
    The stamp that a caller gives; `None` if it gives none.

    :param latest: gives the largest stamp that a caller may give (ns since 1970).
    :raises FieldError: the value is not a valid stamp; the message says why.
    """
    if value is None or value == _ABSENT_STAMP:
        return None
    if type(value) is not str:
        raise FieldError("must be a string")
    try:
        stamp = parse_stamp(value)
    except InvalidStamp as error:
        raise FieldError(str(error)) from None
    if stamp < 0:
        raise FieldError("is before 1970")
    if stamp > latest():
        raise FieldError("is too far ahead of this machine's clock")
    return stamp


class Rules(msgspec.Struct):
    """
    The rules for items that types do not express.
    """

    ask_latest: Callable[[], int]
    max_items: int
    max_tenant_bytes: int
    _latest: int | None = None

    def latest(self) -> int:
        """
        The largest stamp that is allowed, the same for all items.
        """
        if self._latest is None:
            self._latest = self.ask_latest()
        return self._latest

    def tenant(self, value: object) -> str:
        """
        Check the name of a tenant.

        :raises FieldError: the value is not a valid name; the message says why.
        """
        if value is None:
            raise FieldError("is missing")
        if type(value) is not str:
            raise FieldError("must be a string")
        if not 1 <= len(value.encode()) <= self.max_tenant_bytes:
            raise FieldError(f"must be 1 to {self.max_tenant_bytes} bytes of UTF-8")
        return value

    def owner(self, tenant: object, *, deleted: bool) -> str | None:
        """
        Check the tenant of an item; a deleted one has none.

        A missing tenant alone does not delete, since it is usually a mistake.

        :raises FieldError: the item has no valid tenant, or one although it is deleted.
        """
        if not deleted:
            return self.tenant(tenant)
        if tenant is not None:
            raise FieldError("must be absent: the item is deleted")
        return None

    def stamp(self, value: object) -> int | None:
        """
        The stamp of an item; `None` if the caller gives none.

        :raises FieldError: the value is not a valid stamp; the message says why.
        """
        return check_stamp(value, self.latest)


@dataclass(frozen=True, slots=True)
class _Names:
    """
    The known fields of an item, whatever the case of their names.

    :ivar spellings: known name in lower case -> how the item spells it, in the order given.
    """

    element: dict[str, Any]
    spellings: dict[str, list[str]]

    @classmethod
    def of(cls, element: dict[str, Any]) -> "_Names":
        spellings: dict[str, list[str]] = {}
        for name in element:
            # Not `casefold`: with it, one character may match two letters of a name.
            folded = name.lower().replace(LONG_S, "s") if len(name) <= _LONGEST_NAME else ""
            if folded in _NAMES:
                spellings.setdefault(folded, []).append(name)
        return cls(element, spellings)

    def spelling(self, folded: str, usual: str) -> str:
        return self.spellings.get(folded, [usual])[-1]

    def value(self, folded: str) -> object:
        """
        The item's value under a name; `None` if it has none.

        :raises FieldError: the item has the name twice, in two spellings.
        """
        spellings = self.spellings.get(folded, ())
        if len(spellings) > 1:
            raise FieldError(f"is given twice, as {spellings[0]} and {spellings[1]}")
        return self.element[spellings[0]] if spellings else None


@dataclass(frozen=True, slots=True)
class ParsedItems:
    """
    The items read so far.
    """

    ids: list[int]
    tenants: list[str | None]
    stamps: list[int | None]

    def add(self, index: int, element: dict[str, Any], rules: Rules) -> Iterator[ItemError]:
        """
        Append the fields of one item, and yield an error for each invalid one.
        """
        names = _Names.of(element)
        try:
            self.ids.append(check_id(names.value("id")))
        except FieldError as error:
            yield ItemError(index, names.spelling("id", "ID"), str(error))
        try:
            deleted = _flag(names.value("deleted"))
        except FieldError as error:
            yield ItemError(index, names.spelling("deleted", "deleted"), str(error))
        else:
            try:
                self.tenants.append(rules.owner(names.value("tenant"), deleted=deleted))
            except FieldError as error:
                yield ItemError(index, names.spelling("tenant", "tenant"), str(error))
        try:
            self.stamps.append(rules.stamp(names.value("lastupdatedt")))
        except FieldError as error:
            yield ItemError(index, names.spelling("lastupdatedt", "lastUpdateDt"), str(error))

    def items(self) -> Items:
        absent = self.stamps.count(None) == len(self.stamps)
        return Items(ids=self.ids, tenants=self.tenants, stamps=None if absent else self.stamps)


def check_id(value: object) -> int:
    """
    Check an ID.

    :raises FieldError: the value is not a valid ID; the message says why.
    """
    if value is None:
        raise FieldError("is missing")
    if type(value) is not int or not SMALLEST_ID <= value <= LARGEST_ID:
        raise FieldError("must be an integer from -2^63 to 2^63 - 1")
    return value


def _flag(value: object) -> bool:
    """
    Check whether an item says that it is deleted.

    :raises FieldError: the value is neither; the message says so.
    """
    if value is None:
        return False
    if type(value) is not bool:
        raise FieldError("must be true or false")
    return value

"""
Parses the body of `POST /items` into columns, or says which items are invalid and why.

msgspec decodes and checks a valid body in one typed step. The first types know the items that callers store
again and again, and nothing else; the next ones also know deletions and skip unknown fields. Only a body that
fails there is read once more, slowly. That pass finds the mistakes, and fields whose names are in another
case, such as `LastUpdateDt`: Go accepts them, and callers of the original rely on it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Final

import msgspec

from dcounter.errors import InvalidItems, ItemError, MalformedBody, TooManyItems
from dcounter.stamps import InvalidStamp, parse_stamp
from dcounter.store import Items

MAX_ERRORS: Final = 100
"""
The most mistakes that one answer lists; more would only repeat them.
"""

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1
_WIDEST_CHARACTER: Final = 4
_ABSENT_STAMP: Final = "0001-01-01T00:00:00Z"

_ELEMENT: Final = re.compile(r"\$\[([0-9]+)\]")
_DECIMAL: Final = re.compile("-?[0-9]{1,19}")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

_Int64 = Annotated[int, msgspec.Meta(ge=_SMALLEST, le=_LARGEST)]
_Name = Annotated[str, msgspec.Meta(min_length=1)]


class _Item(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """
    An item with `ID` and without unknown fields.

    A Struct, not a dataclass: msgspec decodes and checks it in one step, in a third of the time.
    """

    ID: _Int64
    tenant: _Name
    lastUpdateDt: str | None = None


class _LowerItem(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """
    An item with `id` and without unknown fields.
    """

    id: _Int64
    tenant: _Name
    lastUpdateDt: str | None = None


class _LaxItem(msgspec.Struct, gc=False):
    """
    An item with `ID`, perhaps deleted, and perhaps with unknown fields.

    Its field `id` accepts no value. So an item with both `ID` and `id` fails here, and the slow pass explains
    why.
    """

    ID: _Int64
    tenant: _Name | None = None
    lastUpdateDt: str | None = None
    deleted: bool | None = None
    id: msgspec.UnsetType = msgspec.UNSET


class _LaxLowerItem(msgspec.Struct, gc=False):
    """
    An item with `id`, perhaps deleted, and perhaps with unknown fields.
    """

    id: _Int64
    tenant: _Name | None = None
    lastUpdateDt: str | None = None
    deleted: bool | None = None
    ID: msgspec.UnsetType = msgspec.UNSET


_items = msgspec.json.Decoder(list[_Item])
_lower_items = msgspec.json.Decoder(list[_LowerItem])
_lax_items = msgspec.json.Decoder(list[_LaxItem])
_lax_lower_items = msgspec.json.Decoder(list[_LaxLowerItem])
_ids = msgspec.json.Decoder(list[_Int64])
_anything = msgspec.json.Decoder()

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""
What decoding raises for bytes that are not JSON of the wanted form.
"""

_NAMES: Final = ("id", "tenant", "lastupdatedt", "deleted")
_LONGEST_NAME: Final = max(map(len, _NAMES))
_LONG_S: Final = "\u017f"
"""
The long s: the only letter beyond ASCII that folds to a letter of our names.
"""
_CASES: Final = [
    (b'"id"', (b'"ID"', b'"id"')),
    (b'"tenant"', (b'"tenant"',)),
    (b'"lastupdatedt"', (b'"lastUpdateDt"',)),
    (b'"deleted"', (b'"deleted"',)),
]


class FieldError(ValueError):
    """
    A field of an item is invalid; the text completes the sentence "the field ...".
    """


def parse_items(body: bytes, *, latest: Callable[[], int], max_items: int, max_tenant_bytes: int) -> Items:
    """
    Parse the body of a `POST /items`.

    :param latest: gives the largest stamp that a caller may give (ns since 1970). Few give any.
    :raises MalformedBody: the body is not JSON, or not an array.
    :raises TooManyItems: the array is longer than `max_items`.
    :raises InvalidItems: at least one of its elements is not a valid item.
    """
    rules = _Rules(latest, max_items, max_tenant_bytes)
    try:
        if not body.isascii():
            # msgspec does not check the text of fields that it skips.
            body.decode()
        try:
            return _read(body, rules)
        except (msgspec.ValidationError, FieldError):
            return _explain(body, rules)
    except _UNREADABLE as error:
        raise _malformed(body, error) from error


def parse_ids(body: bytes, *, max_items: int) -> list[int]:
    """
    Parse a body that is an array of IDs.

    :raises MalformedBody: the body is not JSON, or not an array.
    :raises TooManyItems: the array is longer than `max_items`.
    :raises InvalidItems: at least one of its elements is not an ID.
    """
    try:
        if not body.isascii():
            body.decode()
        try:
            ids = _ids.decode(body)
        except msgspec.ValidationError:
            elements = _elements(body, "IDs")
            _check_number(len(elements), max_items)
            raise InvalidItems([*islice(_not_ids(elements), MAX_ERRORS)]) from None
    except _UNREADABLE as error:
        raise _malformed(body, error) from error
    _check_number(len(ids), max_items)
    return ids


def parse_id(text: str) -> int:
    """
    Parse an ID in a path.

    :raises FieldError: the text is not an ID; the message says what is one.
    """
    return _id_of(int(text) if _DECIMAL.fullmatch(text) else text)


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


def _malformed(body: bytes, error: Exception) -> MalformedBody:
    """
    The refusal of a body that cannot be read as JSON.
    """
    if isinstance(error, UnicodeDecodeError):
        return MalformedBody(f"the body is not UTF-8 (byte {error.start})")
    if isinstance(error, RecursionError):
        return MalformedBody("the body is nested too deeply")
    hint = ", or it contains half of a surrogate pair" if _SURROGATE.search(body) else ""
    return MalformedBody(f"the body is not JSON: {error}{hint}")


def _check_number(number: int, most: int) -> None:
    if number > most:
        raise TooManyItems(f"the request has {number} items; the limit is {most}")


class _Rules(msgspec.Struct):
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
            folded = name.lower().replace(_LONG_S, "s") if len(name) <= _LONGEST_NAME else ""
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
class _Parsed:
    """
    The items read so far.
    """

    ids: list[int]
    tenants: list[str | None]
    stamps: list[int | None]

    def add(self, index: int, element: dict[str, Any], rules: _Rules) -> Iterator[ItemError]:
        """
        Append the fields of one item, and yield an error for each invalid one.
        """
        names = _Names.of(element)
        try:
            self.ids.append(_id_of(names.value("id")))
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


def _read(body: bytes, rules: _Rules) -> Items:
    """
    Read a body whose items are all valid.

    Unknown fields are examined before they are skipped: one may be a known field in another case.
    """
    try:
        return _of_upper(_items.decode(body), rules)
    except msgspec.ValidationError:
        pass
    try:
        return _of_lower(_lower_items.decode(body), rules)
    except msgspec.ValidationError:
        # An escaped name may be any name.
        if b"\\" in body or _may_hold_odd_names(body):
            raise
    try:
        lax_upper = _lax_items.decode(body)
    except msgspec.ValidationError:
        lax_lower = _lax_lower_items.decode(body)
        return _of_lax([item.id for item in lax_lower], lax_lower, rules)
    return _of_lax([item.ID for item in lax_upper], lax_upper, rules)


def _may_hold_odd_names(body: bytes) -> bool:
    """
    Whether a known name may occur in another case. Counting is faster than a regular expression.
    """
    if _LONG_S.encode() in body:
        return True
    lower = body.lower()
    return any(
        lower.count(name) != sum(body.count(spelling) for spelling in spellings) for name, spellings in _CASES
    )


def _of_upper(items: Sequence[_Item], rules: _Rules) -> Items:
    names = [item.tenant for item in items]
    return _checked([item.ID for item in items], names, names, items, rules)


def _of_lower(items: Sequence[_LowerItem], rules: _Rules) -> Items:
    names = [item.tenant for item in items]
    return _checked([item.id for item in items], names, names, items, rules)


def _of_lax(ids: list[int], items: Sequence[_LaxItem | _LaxLowerItem], rules: _Rules) -> Items:
    """
    Check items of which some may be deleted.

    :raises FieldError: one is neither deleted nor has a tenant, or both.
    """
    if any((item.tenant is None) is not bool(item.deleted) for item in items):
        raise FieldError("is missing, or given although the item is deleted")
    tenants = [item.tenant for item in items]
    return _checked(ids, tenants, [name for name in tenants if name is not None], items, rules)


def _checked(
    ids: list[int], tenants: Sequence[str | None], names: Sequence[str], items: Sequence[Any], rules: _Rules
) -> Items:
    """
    Check what the types do not. One comprehension per column is the fastest way.

    :param names: the names among the tenants.
    """
    texts = [item.lastUpdateDt for item in items]
    _check_number(len(ids), rules.max_items)
    if max(map(len, names), default=0) * _WIDEST_CHARACTER > rules.max_tenant_bytes:
        for name in names:
            rules.tenant(name)
    if texts.count(None) == len(texts):
        return Items(ids=ids, tenants=tenants)
    return _Parsed(ids, [*tenants], [rules.stamp(text) for text in texts]).items()


def _explain(body: bytes, rules: _Rules) -> Items:
    """
    Read item by item a body that `_read` could not: it is invalid, or has names in another case.
    """
    elements = _elements(body, "items")
    _check_number(len(elements), rules.max_items)
    parsed = _Parsed([], [], [])
    errors: list[ItemError] = []
    for index, element in enumerate(elements):
        if not isinstance(element, dict):
            errors.append(ItemError(index, "", "is not an object"))
        else:
            errors.extend(parsed.add(index, element, rules))
        if len(errors) >= MAX_ERRORS:
            break
    if errors:
        raise InvalidItems(errors[:MAX_ERRORS])
    return parsed.items()


def _elements(body: bytes, what: str) -> list[Any]:
    """
    The elements of an array, whatever they are.

    :param what: what they should be.

    :raises MalformedBody: the body is not an array.
    :raises InvalidItems: an element has a number that is too large for any type.
    """
    try:
        elements = _anything.decode(body)
    except msgspec.ValidationError as error:
        # Only msgspec knows where the number is.
        where = _ELEMENT.search(str(error))
        if where is None:
            raise
        raise InvalidItems(
            [ItemError(int(where[1]), "", "contains a number that is out of range")]
        ) from error
    if not isinstance(elements, list):
        raise MalformedBody(f"the body is not an array of {what}")
    return elements


def _not_ids(elements: Iterable[object]) -> Iterator[ItemError]:
    for index, element in enumerate(elements):
        try:
            _id_of(element)
        except FieldError as error:
            yield ItemError(index, "", str(error))


def _id_of(value: object) -> int:
    """
    Check an ID.

    :raises FieldError: the value is not a valid ID; the message says why.
    """
    if value is None:
        raise FieldError("is missing")
    if type(value) is not int or not _SMALLEST <= value <= _LARGEST:
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

"""
Parses the body of `POST /items` into columns, or says which items are invalid and why.

msgspec decodes and checks a valid body in one typed step. Only a body that fails there is read a second time,
slowly. That pass finds the mistakes, and fields whose names are in another case, such as `LastUpdateDt`: Go
accepts them, and callers of the original rely on it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Final

import msgspec

from dcounter.errors import InvalidItems, ItemError, MalformedBody, TooManyItems
from dcounter.store import Items

MAX_ERRORS: Final = 100
"""
The most mistakes that one answer lists; more would only repeat them.
"""

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1
_WIDEST_CHARACTER: Final = 4
_ABSENT_STAMP: Final = "0001-01-01T00:00:00Z"
_SECOND: Final = 1_000_000_000
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()

_RFC_3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_ELEMENT: Final = re.compile(r"\$\[([0-9]+)\]")
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
    An item with `ID`, and perhaps with unknown fields.

    Its field `id` accepts no value. So an item with both `ID` and `id` fails here, and the slow pass explains
    why.
    """

    ID: _Int64
    tenant: _Name
    lastUpdateDt: str | None = None
    id: msgspec.UnsetType = msgspec.UNSET


class _LaxLowerItem(msgspec.Struct, gc=False):
    """
    An item with `id`, and perhaps with unknown fields.
    """

    id: _Int64
    tenant: _Name
    lastUpdateDt: str | None = None
    ID: msgspec.UnsetType = msgspec.UNSET


_items = msgspec.json.Decoder(list[_Item])
_lower_items = msgspec.json.Decoder(list[_LowerItem])
_lax_items = msgspec.json.Decoder(list[_LaxItem])
_lax_lower_items = msgspec.json.Decoder(list[_LaxLowerItem])
_anything = msgspec.json.Decoder()

ITEMS: Final[dict[str, Any]] = {
    "type": "array",
    "items": {
        "oneOf": [
            {
                "type": "object",
                "required": [name, "tenant"],
                "properties": {
                    name: {"type": "integer", "format": "int64"},
                    "tenant": {
                        "type": "string",
                        "minLength": 1,
                        "description": "At most `max_tenant_bytes` bytes of UTF-8.",
                    },
                    "lastUpdateDt": {
                        "type": ["string", "null"],
                        "format": "date-time",
                        "description": "The item's own stamp, with up to nine fractional digits.",
                    },
                },
            }
            for name in ("ID", "id")
        ]
    },
}
"""
The JSON schema of a body. msgspec cannot describe a choice between two objects.
"""

_NAMES: Final = ("id", "tenant", "lastupdatedt")
_LONGEST_NAME: Final = max(map(len, _NAMES))
_LONG_S: Final = "\u017f"
"""
The long s: the only letter beyond ASCII that folds to a letter of our names.
"""
_CASES: Final = [
    (b'"id"', (b'"ID"', b'"id"')),
    (b'"tenant"', (b'"tenant"',)),
    (b'"lastupdatedt"', (b'"lastUpdateDt"',)),
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
    except msgspec.DecodeError as error:
        hint = ", or it contains half of a surrogate pair" if _SURROGATE.search(body) else ""
        raise MalformedBody(f"the body is not JSON: {error}{hint}") from error
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise MalformedBody("the body is nested too deeply") from error


def parse_stamp(text: str) -> int:
    """
    Turn an RFC 3339 time into ns since 1970, exactly; before 1970 they are negative.

    :raises FieldError: the text is not a valid time; the message says why.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise FieldError("is not an RFC 3339 time such as 2026-01-31T12:00:00.123456789Z")
    day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    if fraction is not None and len(fraction) > 9:
        raise FieldError("has more than nine fractional digits")
    if second == "60":
        raise FieldError("is a leap second, which has no stamp of its own: send second 59 instead")
    if hour > "23" or minute > "59" or second > "59":
        raise FieldError("has an invalid time of day")
    try:
        days = date.fromisoformat(day).toordinal() - _EPOCH_DAY
    except ValueError:
        raise FieldError("has an invalid date") from None
    seconds = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    if sign is not None:
        if offset_hour > "23" or offset_minute > "59":
            raise FieldError("has an invalid offset")
        offset = int(offset_hour) * 3_600 + int(offset_minute) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * _SECOND + (int(fraction.ljust(9, "0")) if fraction is not None else 0)


class _Rules(msgspec.Struct):
    """
    The rules for items that types do not express.
    """

    ask_latest: Callable[[], int]
    max_items: int
    max_tenant_bytes: int
    _latest: int | None = None

    @property
    def latest(self) -> int:
        """
        The largest stamp that is allowed, the same for all items.
        """
        if self._latest is None:
            self._latest = self.ask_latest()
        return self._latest

    def check_number(self, number: int) -> None:
        if number > self.max_items:
            raise TooManyItems(f"the request has {number} items; the limit is {self.max_items}")

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

    def stamp(self, value: object) -> int | None:
        """
        The stamp of an item; `None` if the caller gives none.

        :raises FieldError: the value is not a valid stamp; the message says why.
        """
        if value is None or value == _ABSENT_STAMP:
            return None
        if type(value) is not str:
            raise FieldError("must be a string")
        stamp = parse_stamp(value)
        if stamp < 0:
            raise FieldError("is before 1970")
        if stamp > self.latest:
            raise FieldError("is too far ahead of this machine's clock")
        return stamp


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
    tenants: list[str]
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
            self.tenants.append(rules.tenant(names.value("tenant")))
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
        return _of_upper(_lax_items.decode(body), rules)
    except msgspec.ValidationError:
        return _of_lower(_lax_lower_items.decode(body), rules)


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


def _of_upper(items: Sequence[_Item | _LaxItem], rules: _Rules) -> Items:
    return _checked([item.ID for item in items], items, rules)


def _of_lower(items: Sequence[_LowerItem | _LaxLowerItem], rules: _Rules) -> Items:
    return _checked([item.id for item in items], items, rules)


def _checked(ids: list[int], items: Sequence[Any], rules: _Rules) -> Items:
    """
    Check what the types do not. One comprehension per column is the fastest way.
    """
    tenants = [item.tenant for item in items]
    texts = [item.lastUpdateDt for item in items]
    rules.check_number(len(ids))
    if max(map(len, tenants), default=0) * _WIDEST_CHARACTER > rules.max_tenant_bytes:
        for tenant in tenants:
            rules.tenant(tenant)
    if texts.count(None) == len(texts):
        return Items(ids=ids, tenants=tenants)
    return _Parsed(ids, tenants, [rules.stamp(text) for text in texts]).items()


def _explain(body: bytes, rules: _Rules) -> Items:
    """
    Read item by item a body that `_read` could not: it is invalid, or has names in another case.
    """
    try:
        elements = _anything.decode(body)
    except msgspec.ValidationError as error:
        # A number too large for any type. Only msgspec knows where it is.
        where = _ELEMENT.search(str(error))
        if where is None:
            raise
        raise InvalidItems(
            [ItemError(int(where[1]), "", "contains a number that is out of range")]
        ) from error
    if not isinstance(elements, list):
        raise MalformedBody("the body is not an array of items")
    rules.check_number(len(elements))
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

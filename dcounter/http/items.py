"""
Parses the body of `POST /items` into columns, or says which items are invalid and why.

msgspec decodes and checks a valid body in one typed step. The first types know the items that callers store
again and again, and nothing else; the next ones also know deletions and skip unknown fields. Only a body that
fails there is read once more, slowly. That pass finds the mistakes, and fields whose names are in another
case, such as `LastUpdateDt`: Go accepts them, and callers of the original rely on it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Final

import msgspec

from dcounter.errors import InvalidItems, ItemError, MalformedBody, TooManyItems
from dcounter.http.item_fields import (
    LARGEST_ID,
    LONG_S,
    SMALLEST_ID,
    FieldError,
    ParsedItems,
    Rules,
    check_id,
)
from dcounter.store import Items

MAX_ERRORS: Final = 100
"""
The most mistakes that one answer lists; more would only repeat them.
"""

_WIDEST_CHARACTER: Final = 4

_ELEMENT: Final = re.compile(r"\$\[([0-9]+)\]")
_DECIMAL: Final = re.compile("-?[0-9]{1,19}")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_LINE: Final = re.compile(rb"\{.{0,1000}\}\r?\n")
"""
The first of several lines with an item each, as most begin.
"""

_Int64 = Annotated[int, msgspec.Meta(ge=SMALLEST_ID, le=LARGEST_ID)]
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


class _Form(msgspec.Struct, frozen=True):
    """
    How items are written: in an array, or on lines. Each field decodes all of them, as items of one type.
    """

    items: Callable[[bytes], list[_Item]]
    lower_items: Callable[[bytes], list[_LowerItem]]
    lax_items: Callable[[bytes], list[_LaxItem]]
    lax_lower_items: Callable[[bytes], list[_LaxLowerItem]]


_ARRAY: Final = _Form(
    msgspec.json.Decoder(list[_Item]).decode,
    msgspec.json.Decoder(list[_LowerItem]).decode,
    msgspec.json.Decoder(list[_LaxItem]).decode,
    msgspec.json.Decoder(list[_LaxLowerItem]).decode,
)
_ON_LINES: Final = _Form(
    msgspec.json.Decoder(_Item).decode_lines,
    msgspec.json.Decoder(_LowerItem).decode_lines,
    msgspec.json.Decoder(_LaxItem).decode_lines,
    msgspec.json.Decoder(_LaxLowerItem).decode_lines,
)
_ids = msgspec.json.Decoder(list[_Int64])
_anything = msgspec.json.Decoder()
_elements_apart = msgspec.json.Decoder(list[msgspec.Raw])

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""
What decoding raises for bytes that are not JSON of the wanted form.
"""

_CASES: Final = [
    (b'"id"', (b'"ID"', b'"id"')),
    (b'"tenant"', (b'"tenant"',)),
    (b'"lastupdatedt"', (b'"lastUpdateDt"',)),
    (b'"deleted"', (b'"deleted"',)),
]


def parse_items(body: bytes, *, latest: Callable[[], int], max_items: int, max_tenant_bytes: int) -> Items:
    """
    Parse the body of a `POST /items`.

    :param latest: gives the largest stamp that a caller may give (ns since 1970). Few give any.
    :raises MalformedBody: the body is not JSON, or not an array.
    :raises TooManyItems: the array is longer than `max_items`.
    :raises InvalidItems: at least one of its elements is not a valid item.
    """
    rules = Rules(latest, max_items, max_tenant_bytes)
    try:
        if not body.isascii():
            # msgspec does not check the text of fields that it skips.
            body.decode()
        try:
            return _read(body, _ARRAY, rules)
        except (msgspec.ValidationError, FieldError):
            return _explain(body, rules)
    except _UNREADABLE as error:
        raise _malformed(body, error) from error


class ValidItems(msgspec.Struct, frozen=True):
    """
    The valid items of a body, and what is wrong with the others.

    :ivar invalid: how many others there are.
    :ivar errors: the first mistakes in them.
    """

    items: Items
    invalid: int = 0
    errors: Sequence[ItemError] = ()


def parse_valid_items(
    body: bytes, *, latest: Callable[[], int], max_items: int, max_tenant_bytes: int
) -> ValidItems:
    """
    Parse what is valid in the body of a `POST /items`; the parameters are those of `parse_items`.

    :raises MalformedBody: the body is not JSON, or not an array.
    :raises TooManyItems: the array is longer than `max_items`.
    """
    try:
        return ValidItems(
            parse_items(body, latest=latest, max_items=max_items, max_tenant_bytes=max_tenant_bytes)
        )
    except InvalidItems:
        pass
    try:
        # One by one: a number that is out of range makes only its own item invalid.
        elements = _elements_apart.decode(body)
    except _UNREADABLE as error:
        raise _malformed(body, error) from error
    _check_number(len(elements), max_items)
    reader = LineReader(latest=latest, max_tenant_bytes=max_tenant_bytes)
    invalid = 0
    errors: list[ItemError] = []
    for index, element in enumerate(elements):
        found = reader.read(bytes(element), index)
        invalid += bool(found)
        if len(errors) < MAX_ERRORS:
            errors.extend(found)
    return ValidItems(reader.items(), invalid, errors[:MAX_ERRORS])


def parse_lines(data: bytes, lines: int, *, latest: Callable[[], int], max_tenant_bytes: int) -> Items | None:
    """
    Parse lines with one item each.

    :param lines: how many lines `data` has.
    :returns: `None` if one of them is not a valid item and nothing else: `LineReader` tells which.
    """
    data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
    whole = data.removesuffix(b"\n")
    # No line break is inside of an item, since none can be between } and { there. So there are as many items
    # as lines, each of which is one, or more of them: that is too many.
    if whole[:1] != b"{" or whole[-1:] != b"}" or whole.count(b"}\n{") != lines - 1:
        return None
    try:
        if not data.isascii():
            data.decode()
        return _read(data, _ON_LINES, Rules(latest, lines, max_tenant_bytes))
    except (*_UNREADABLE, FieldError, TooManyItems):
        return None


class LineReader:
    """
    Reads lines one by one, and explains what is wrong with those that are not valid items.
    """

    def __init__(self, *, latest: Callable[[], int], max_tenant_bytes: int) -> None:
        self._rules = Rules(latest, 1, max_tenant_bytes)
        self._parsed = ParsedItems([], [], [])

    def read(self, line: bytes, number: int) -> Sequence[ItemError]:
        """
        Read a line; an empty one is passed over.

        :param number: of the line.
        :returns: the mistakes; none: its item is among those of `items`.
        """
        one = ParsedItems([], [], [])
        try:
            text = line.decode().strip(" \t\r\n")
            if not text:
                return ()
            element = _anything.decode(text)
        except msgspec.ValidationError:
            return [ItemError(number, "", "contains a number that is out of range")]
        except msgspec.DecodeError as error:
            return [ItemError(number, "", f"is not JSON: {error}")]
        except UnicodeDecodeError as error:
            return [ItemError(number, "", f"is not UTF-8 (byte {error.start})")]
        except RecursionError:
            return [ItemError(number, "", "is nested too deeply")]
        if not isinstance(element, dict):
            return [ItemError(number, "", "is not an object")]
        errors = [*one.add(number, element, self._rules)]
        if not errors:
            self._parsed.ids.extend(one.ids)
            self._parsed.tenants.extend(one.tenants)
            self._parsed.stamps.extend(one.stamps)
        return errors

    def items(self) -> Items:
        """
        The items of the lines that were valid.
        """
        return self._parsed.items()


def parse_ids(body: bytes, *, max_items: int, reads: bool = False) -> list[int]:
    """
    Parse a body that is an array of IDs.

    :param reads: whether the request changes nothing.
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
            elements = _elements(body, "IDs", reads=reads)
            _check_number(len(elements), max_items)
            raise InvalidItems([*islice(_not_ids(elements), MAX_ERRORS)], reads=reads) from None
    except _UNREADABLE as error:
        raise _malformed(body, error) from error
    _check_number(len(ids), max_items)
    return ids


def parse_id(text: str) -> int:
    """
    Parse an ID in a path.

    :raises FieldError: the text is not an ID; the message says what is one.
    """
    return check_id(int(text) if _DECIMAL.fullmatch(text) else text)


def _malformed(body: bytes, error: Exception) -> MalformedBody:
    """
    The refusal of a body that cannot be read as JSON.
    """
    if isinstance(error, UnicodeDecodeError):
        return MalformedBody(f"the body is not UTF-8 (byte {error.start})")
    if isinstance(error, RecursionError):
        return MalformedBody("the body is nested too deeply")
    hint = ", or it contains half of a surrogate pair" if _SURROGATE.search(body) else ""
    if _LINE.match(body):
        hint += "; to send lines with one item each, add the header Content-Type: application/x-ndjson"
    return MalformedBody(f"the body is not JSON: {error}{hint}")


def _check_number(number: int, most: int) -> None:
    if number > most:
        raise TooManyItems(f"the request has {number} items; the limit is {most}")


def _read(body: bytes, form: _Form, rules: Rules) -> Items:
    """
    Read a body whose items are all valid.

    Unknown fields are examined before they are skipped: one may be a known field in another case.
    """
    try:
        return _of_upper(form.items(body), rules)
    except msgspec.ValidationError:
        pass
    try:
        return _of_lower(form.lower_items(body), rules)
    except msgspec.ValidationError:
        # An escaped name may be any name.
        if b"\\" in body or _may_hold_odd_names(body):
            raise
    try:
        lax_upper = form.lax_items(body)
    except msgspec.ValidationError:
        lax_lower = form.lax_lower_items(body)
        return _of_lax([item.id for item in lax_lower], lax_lower, rules)
    return _of_lax([item.ID for item in lax_upper], lax_upper, rules)


def _may_hold_odd_names(body: bytes) -> bool:
    """
    Whether a known name may occur in another case. Counting is faster than a regular expression.
    """
    if LONG_S.encode() in body:
        return True
    lower = body.lower()
    return any(
        lower.count(name) != sum(body.count(spelling) for spelling in spellings) for name, spellings in _CASES
    )


def _of_upper(items: Sequence[_Item], rules: Rules) -> Items:
    names = [item.tenant for item in items]
    return _checked([item.ID for item in items], names, names, items, rules)


def _of_lower(items: Sequence[_LowerItem], rules: Rules) -> Items:
    names = [item.tenant for item in items]
    return _checked([item.id for item in items], names, names, items, rules)


def _of_lax(ids: list[int], items: Sequence[_LaxItem | _LaxLowerItem], rules: Rules) -> Items:
    """
    Check items of which some may be deleted.

    :raises FieldError: one is neither deleted nor has a tenant, or both.
    """
    if any((item.tenant is None) is not bool(item.deleted) for item in items):
        raise FieldError("is missing, or given although the item is deleted")
    tenants = [item.tenant for item in items]
    return _checked(ids, tenants, [name for name in tenants if name is not None], items, rules)


def _checked(
    ids: list[int], tenants: Sequence[str | None], names: Sequence[str], items: Sequence[Any], rules: Rules
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
    return ParsedItems(ids, [*tenants], [rules.stamp(text) for text in texts]).items()


def _explain(body: bytes, rules: Rules) -> Items:
    """
    Read item by item a body that `_read` could not: it is invalid, or has names in another case.
    """
    elements = _elements(body, "items")
    _check_number(len(elements), rules.max_items)
    parsed = ParsedItems([], [], [])
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


def _elements(body: bytes, what: str, *, reads: bool = False) -> list[Any]:
    """
    The elements of an array, whatever they are.

    :param what: what they should be.
    :param reads: whether the request changes nothing.
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
        mistake = ItemError(int(where[1]), "", "contains a number that is out of range")
        raise InvalidItems([mistake], reads=reads) from error
    if not isinstance(elements, list):
        raise MalformedBody(f"the body is not an array of {what}")
    return elements


def _not_ids(elements: Iterable[object]) -> Iterator[ItemError]:
    for index, element in enumerate(elements):
        try:
            check_id(element)
        except FieldError as error:
            yield ItemError(index, "", str(error))

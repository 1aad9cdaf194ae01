"""
Parses bodies of questions that list tenants.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from dcounter.errors import InvalidItems, ItemError, MalformedBody, TooManyItems
from dcounter.http.items import MAX_ERRORS

_T = TypeVar("_T")

_Name = Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"format": "tenant"})]
_Names = Annotated[list[_Name], msgspec.Meta(max_length=1_000)]


class Tenants(msgspec.Struct, forbid_unknown_fields=True):
    """
    A list of tenants.

    :ivar tenants: their names.
    """

    tenants: _Names


class AuditWanted(msgspec.Struct, forbid_unknown_fields=True):
    """
    What to audit.

    :ivar tenants: tenants whose counts are part of the answer.
    :ivar repair: whether to make a node anew that is found to be wrong.
    """

    tenants: _Names = []
    repair: bool = False


class _AnyTenants(msgspec.Struct, forbid_unknown_fields=True):
    """
    A list of tenants before they are checked.
    """

    tenants: list[Any]


class _AnyAudit(msgspec.Struct, forbid_unknown_fields=True):
    """
    What to audit, before its tenants are checked.
    """

    tenants: list[Any] = []
    repair: bool = False


_tenants = msgspec.json.Decoder(_AnyTenants)
_audit = msgspec.json.Decoder(_AnyAudit)


def parse_tenants(body: bytes, *, most: int, most_bytes: int) -> Sequence[str]:
    """
    Parse `{"tenants": [name, ...]}`.

    :param most_bytes: the length of a name as UTF-8.
    :raises MalformedBody: the body is not JSON, or not such an object.
    :raises TooManyItems: there are more than `most`.
    :raises InvalidItems: one of them is no name of a tenant.
    """
    found = _decode(_tenants, body, 'the body must be {"tenants": [name, ...]}').tenants
    _check_tenants(found, most, most_bytes)
    return found


def parse_audit(body: bytes, *, most: int, most_bytes: int) -> AuditWanted:
    """
    Parse `{"tenants": [name, ...], "repair": true}`; both may be left out.

    The errors are those of `parse_tenants`.
    """
    must = 'the body must be {"tenants": [name, ...], "repair": true or false}, or {} to audit without both'
    found = _decode(_audit, body, must)
    _check_tenants(found.tenants, most, most_bytes)
    return AuditWanted(found.tenants, found.repair)


def _check_tenants(found: Sequence[Any], most: int, most_bytes: int) -> None:
    def is_name(value: object) -> bool:
        return type(value) is str and 1 <= len(value.encode()) <= most_bytes

    _check(found, most, "tenants", "tenant", is_name, f"must be a string of 1 to {most_bytes} bytes of UTF-8")


def _decode(decoder: "msgspec.json.Decoder[_T]", body: bytes, must: str) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"{must}: {error}") from error


def _check(
    found: Sequence[Any], most: int, what: str, field: str, good: Callable[[object], bool], must: str
) -> None:
    if len(found) > most:
        raise TooManyItems(f"the request names {len(found)} {what}; the limit is {most}")
    errors = [ItemError(i, field, must) for i, value in enumerate(found) if not good(value)]
    if errors:
        raise InvalidItems(errors[:MAX_ERRORS], reads=True)

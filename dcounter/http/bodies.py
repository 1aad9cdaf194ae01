"""
The JSON schemas of bodies that msgspec cannot describe from a type.
"""

from collections.abc import Iterator
from typing import Any, Final

_TENANT: Final = {
    "type": "string",
    "minLength": 1,
    "description": "Its name; at most `max_tenant_bytes` bytes of UTF-8.",
}
_STAMP: Final = {
    "type": ["string", "null"],
    "format": "date-time",
    "description": "The item's own stamp, with up to nine fractional digits.",
}


def _schemas(name: str) -> Iterator[dict[str, Any]]:
    """
    The schemas of an item to store and of one to delete.

    :param name: how they spell `ID`.
    """
    about = "An integer from -2^63 to 2^63 - 1." if name == "ID" else "The same as `ID`."
    item = {"type": "integer", "format": "int64", "description": about}
    about = "`true`: the ID is deleted, and has no tenant any more."
    not_deleted = {"enum": [False, None], "description": about}
    deleted = {"const": True, "description": about}
    yield {
        "type": "object",
        "required": [name, "tenant"],
        "properties": {name: item, "tenant": _TENANT, "lastUpdateDt": _STAMP, "deleted": not_deleted},
    }
    yield {
        "type": "object",
        "required": [name, "deleted"],
        "properties": {name: item, "tenant": {"type": "null"}, "lastUpdateDt": _STAMP, "deleted": deleted},
    }


ITEMS: Final[dict[str, Any]] = {
    "type": "array",
    "description": "A list of items to store or to delete.",
    "items": {"oneOf": [schema for name in ("ID", "id") for schema in _schemas(name)]},
}
"""
Items to store or to delete: msgspec cannot describe a choice between objects.
"""

IDS: Final[dict[str, Any]] = {
    "type": "array",
    "description": "A list of IDs.",
    "items": {"type": "integer", "format": "int64"},
}
"""
IDs to delete, or to look up.
"""

LINES: Final[dict[str, Any]] = {
    "type": "string",
    "description": "Lines, each with one item as in an array of items. Empty lines are passed over. The body"
    " may have the Content-Encoding gzip or zstd.",
}
"""
The body of a load.
"""

"""
The parameters of the routes.
"""

from typing import Final, get_args

from dcounter.http import bodies
from dcounter.http.route import Parameter
from dcounter.store import Ack, Consistency, Order

AFTER: Final = Parameter(
    "after",
    "A position from an earlier answer: this request sees all that it covers.",
    schema={"type": "string", "format": "position", "minLength": 1},
)
ACK: Final = Parameter("ack", "Which nodes must have written the items before the answer.", get_args(Ack))
STAMP: Final = Parameter(
    "lastUpdateDt",
    "The stamp of all items that have none of their own: RFC 3339, with up to nine fractional digits. With"
    " it, the request can be repeated without harm.",
    schema=bodies.STAMP,
)
STAMP_OF_ERASURE: Final = Parameter(
    "lastUpdateDt",
    "The `lastUpdateDt` of an earlier attempt: what was stored after that stays. If it is left out,"
    " everything that the tenant owns now is deleted.",
    schema=bodies.STAMP,
)
RECEIPT: Final = Parameter(
    "receipt",
    "`1`: the answer says what became of each item, and the new counts of the tenants that are touched. Loads"
    " do not have it.",
    ("0", "1"),
    default="0",
    needs="receipts",
)
PARTIAL: Final = Parameter(
    "partial", "`1`: store what is valid, and list the first mistakes in the rest.", ("0", "1"), default="0"
)
NO_RECEIPT: Final = Parameter("receipt", "Loads have no receipts.", ("0",), default="0", needs="receipts")
STORED_BY: Final = (ACK, AFTER, STAMP, RECEIPT)
"""
What a request to store or to delete says of how that is done.
"""

CONSISTENCY: Final = Parameter(
    "consistency", "What to answer if the exact answer is not available at once.", get_args(Consistency)
)
FILE: Final = Parameter("file", "The name of a file that the dashboard needs.")
ID: Final = Parameter("ID", "An integer from -2^63 to 2^63 - 1.", schema=bodies.ID)
TENANT: Final = Parameter("tenant", "Percent-encoded UTF-8; write `/` as `%2F`.", tenant=True)
PREFIX: Final = Parameter(
    "prefix",
    "Only tenants whose names begin with this; all if it is empty or left out.",
    tenant=True,
    schema={"type": "string"},
    empty=True,
)
PAGE: Final = (
    Parameter(
        "limit",
        "How many to list, at most. A page may have fewer and not be the last one.",
        schema={"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100},
    ),
    Parameter(
        "cursor",
        "The `cursor` of the page before. The other parameters must be the same.",
        schema={"type": "string", "format": "cursor", "minLength": 1},
    ),
)
VERBOSE: Final = Parameter(
    "verbose", "Given without a value or as `1`: with what is checked.", ("", "0", "1"), default="0"
)
ASKED_AT: Final = (CONSISTENCY, AFTER)
"""
What a question says of the position at which it is asked.
"""

SORT: Final = Parameter(
    "sort", "By name as UTF-8, or those that own most first.", get_args(Order), default=get_args(Order)[0]
)
TENANTS: Final = Parameter(
    "tenant",
    "Only events of this tenant; may be given again. All if it is left out.",
    tenant=True,
    repeated=True,
    schema={"type": "array", "items": {"type": "string"}},
)
DELETED: Final = Parameter("deleted", "`1`: with the IDs that are deleted.", ("0", "1"), default="0")

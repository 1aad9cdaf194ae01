"""
What the function of a route is given: the request, and what it may use to answer it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from dcounter.http.auth import OperatorToken
from dcounter.http.callers import is_this_machine
from dcounter.http.limits import HttpLimits
from dcounter.store import Ack, Consistency, Operator, Store

Principal = Literal["anyone", "operator"]
"""
What a request has shown to be allowed.
"""


class Api(Struct, frozen=True, kw_only=True):
    """
    What the routes answer from.

    :ivar operator: `None` if there are no nodes to operate on.
    :ivar token: shows that a request is the operator's; `None`: no request can be.
    :ivar ack: which nodes must have written the items before the answer, if the request does not say.
    :ivar consistency: what a count may answer, if the request does not say.
    :ivar document: the OpenAPI document, encoded.
    """

    store: Store
    operator: Operator | None
    limits: HttpLimits
    token: OperatorToken | None
    ack: Ack
    consistency: Consistency
    document: bytes


class Call(Struct):
    """
    One request, whole.

    A `Struct`, since every request makes one: it is the fastest to make.

    :ivar query: what follows the question mark, percent-encoded.
    :ivar peer: the address of the caller.
    :ivar headers: the values of each header; names are spelled as in `Content-Type`.
    :ivar segments: what the path has in the places that the route leaves open, percent-encoded.
    :ivar parameters: the same by name, and those of the query, decoded and checked.
    :ivar principal: what the request has shown to be allowed.
    """

    body: bytes
    query: bytes
    peer: object
    headers: Mapping[bytes, Sequence[bytes]]
    segments: Sequence[str] = ()
    parameters: dict[str, str] = {}
    principal: Principal = "anyone"

    @property
    def local(self) -> bool:
        """
        Whether the caller sits on this machine.
        """
        return is_this_machine(self.peer)

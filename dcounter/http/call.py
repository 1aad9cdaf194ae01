"""
The arguments of a route's function: the request, and what the function needs to answer it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct, field
from twisted.internet.defer import DeferredSemaphore

from dcounter.figures import Samples
from dcounter.http.access import AccessLog, write_nothing
from dcounter.http.auth import ANYONE, OperatorToken, Principal, Scope, Tokens
from dcounter.http.callers import is_this_machine
from dcounter.http.drain import Drain
from dcounter.http.figures import HttpFigures
from dcounter.http.limits import HttpLimits
from dcounter.http.problems import Answer, Forbidden
from dcounter.http.streams import Body
from dcounter.store import Ack, Consistency, Operator, Store

_SHOWN: Final = 100
"""
How many characters of a tenant's name an error repeats.
"""


def require_scope(scope: Scope, principal: Principal, what: str) -> None:
    """
    Refuse what a token does not permit.

    :param what: for people: what needs the scope.
    :raises Forbidden: the token does not have it.
    """
    if scope not in principal.scopes:
        raise Forbidden(f"{what} needs the scope {scope!r}, which the token {principal.name!r} does not have")


class Api(Struct, frozen=True, kw_only=True):
    """
    What the functions of all routes share.

    :ivar operator: `None` if there are no nodes to operate on.
    :ivar token: the operator's token; `None` if there is none, and requests of operators are refused.
    :ivar ack: the default of the parameter `ack`.
    :ivar consistency: the default of the parameter `consistency`.
    :ivar document: the OpenAPI document, encoded.
    :ivar page: the answer with the page that describes the API.
    :ivar figures: what the HTTP side counts.
    :ivar measure: gives the figures of the store; `None` if it has none.
    :ivar dashboard: the answers with the files of the dashboard, by their names.
    :ivar drain: whether the daemon is about to stop.
    :ivar access: logs the requests.
    :ivar tokens: the tokens that callers must show; `None` if anyone may store and count.
    :ivar room_for_pieces: how many more pieces of loads may be stored at once.
    :ivar room_for_watchers: how many more watchers there may be.
    :ivar room_for_exports: how many more exports there may be at once.
    """

    store: Store
    operator: Operator | None
    limits: HttpLimits
    token: OperatorToken | None
    ack: Ack
    consistency: Consistency
    document: bytes
    page: Answer
    figures: HttpFigures
    measure: Callable[[], Awaitable[Sequence[Samples]]] | None = None
    dashboard: Mapping[str, Answer]
    drain: Drain = field(default_factory=Drain)
    access: AccessLog = field(default_factory=lambda: AccessLog(write_nothing))
    tokens: Tokens | None = None
    room_for_pieces: DeferredSemaphore = field(
        default_factory=lambda: DeferredSemaphore(HttpLimits().loads_pieces)
    )
    room_for_watchers: DeferredSemaphore = field(
        default_factory=lambda: DeferredSemaphore(HttpLimits().max_watchers)
    )
    room_for_exports: DeferredSemaphore = field(
        default_factory=lambda: DeferredSemaphore(HttpLimits().exports)
    )


class Call(Struct):
    """
    One complete request.

    A `Struct`, because each request creates one, and a `Struct` is the cheapest to create.

    :ivar query: the part of the target after the question mark, percent-encoded.
    :ivar peer: the address of the caller.
    :ivar headers: the values of each header; names are in lower case.
    :ivar segments: the variable segments of the path, percent-encoded.
    :ivar parameters: the variable segments and the parameters of the query by name, decoded and checked.
    :ivar many: the values of each parameter of the query that may be given more than once; `parameters` has
        the first of them.
    :ivar principal: the identity that the request has proved, and its rights.
    :ivar stream: the body, if the route reads it while it arrives; `body` is then empty.
    """

    body: bytes
    query: bytes
    peer: object
    headers: Mapping[bytes, Sequence[bytes]]
    segments: Sequence[str] = ()
    parameters: dict[str, str] = {}
    many: dict[str, list[str]] = {}
    principal: Principal = ANYONE
    stream: Body | None = None

    @property
    def local(self) -> bool:
        """
        Whether the caller is on this machine.
        """
        return is_this_machine(self.peer)

    def require_tenant(self, tenant: str) -> None:
        """
        Refuse a request about a tenant, or about all tenants with a prefix, that its token does not include.

        The answer is the same whether there is such a tenant or not.

        :raises Forbidden: the token is bound to other tenants.
        """
        if not self.principal.may_read(tenant):
            raise Forbidden(
                f"the token {self.principal.name!r} may read only tenants whose names begin with"
                f" {' or '.join(map(repr, self.principal.prefixes))}, not {tenant[:_SHOWN]!r}"
            )

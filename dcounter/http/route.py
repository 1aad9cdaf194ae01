"""
What a row of the list of routes is.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dcounter.errors import Refusal
from dcounter.http.auth import Scope
from dcounter.http.call import Api, Call
from dcounter.http.loads import media_type
from dcounter.http.problems import Answer
from dcounter.store import Capability

Function = Callable[[Api, Call], Awaitable[Answer]]

Access = Literal["anyone"] | Scope
"""
The right that a request needs. `anyone` and, at a daemon without a file of tokens, `read` and `write`: none.
"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """
    A parameter of a route, in its path or its query.

    :ivar description: for the OpenAPI document.
    :ivar values: the values that it may have; none: any text that is not empty.
    :ivar tenant: whether it is the name of a tenant, or how the names of tenants begin. A token that is bound
        to some tenants must name one of those.
    :ivar repeated: whether it may be given more than once.
    :ivar schema: the JSON schema of its value, if there are no `values`; the function checks it.
    :ivar default: the value that counts if it is left out; `None` if there is none, or the daemon's options
        set it.
    :ivar empty: whether it may be an empty text.
    :ivar needs: what the store must be able to do; `None` if every store can.
    """

    name: str
    description: str
    values: Collection[str] = ()
    tenant: bool = False
    repeated: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string", "minLength": 1}, hash=False)
    default: str | None = None
    empty: bool = False
    needs: Capability | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    One method of one path.

    :ivar path: `{name}` matches one segment of percent-encoded UTF-8.
    :ivar function: answers a request, once it is permitted and its parameters are checked.
    :ivar summary: one sentence, for the OpenAPI document.
    :ivar answer: the type of the answer with status 200.
    :ivar answer_type: the content type of that answer.
    :ivar answer_in_part: the type of the answer with status 207, if there is one.
    :ivar segments: the variable segments of the path.
    :ivar query: the parameters of the query; others are refused.
    :ivar body: the type of the body, or its JSON schema; `None` if the route takes no body.
    :ivar content_type: the type of the body, as its header names it.
    :ivar by_type: content type -> the route that takes bodies of that type, with the same method and path.
    :ivar encodings: the encodings in which `function` takes the body, besides none.
    :ivar scope: the right that a request needs.
    :ivar checks_tenants: whether `function` keeps a token that is bound to some tenants from learning of
        others, by `Call.require_tenant` or `Principal.may_read`. Where neither it nor a parameter does so,
        such tokens are refused.
    :ivar refusals: what `function` may raise, besides the refusals of every route (`dcounter.http.openapi`).
    :ivar streams_body: whether `function` reads the body while it arrives, however large it is.
    :ivar reads: whether a request changes nothing although its method is not GET.
    :ivar needs: what the store must be able to do; `None` if every store can.
    :ivar vital: whether a request is answered although there are too many connections.
    :ivar ends_with_caller: whether a request that takes long is given up when its caller sends no more.
    :ivar revalidates: whether a caller that has the answer already, as the header `If-None-Match` says, is
        told so (304) instead.
    :ivar successor: the path to use instead, if this one is deprecated.
    :ivar values: parameter of the query -> the values that it may have, as `parse_query` takes them.
    :ivar tenants: the parameters that name tenants.
    :ivar repeated: the parameters of the query that may be given more than once.
    """

    method: str
    path: str
    function: Function
    summary: str
    answer: Any
    answer_type: str = "application/json"
    answer_in_part: Any = None
    segments: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: Any = None
    content_type: str = "application/json"
    by_type: Mapping[bytes, "Route"] = field(default_factory=dict)
    encodings: Sequence[str] = ()
    scope: Access
    checks_tenants: bool = False
    refusals: tuple[type[Refusal], ...] = ()
    streams_body: bool = False
    reads: bool = False
    needs: Capability | None = None
    vital: bool = False
    ends_with_caller: bool = False
    revalidates: bool = False
    successor: str = ""
    values: Mapping[str, Collection[str] | None] = field(init=False)
    tenants: Collection[str] = field(init=False)
    repeated: Collection[str] = field(init=False)

    def __post_init__(self) -> None:
        values = {each.name: None if each.empty else each.values for each in self.query}
        object.__setattr__(self, "values", values)
        named = (each.name for each in (*self.segments, *self.query) if each.tenant)
        object.__setattr__(self, "tenants", tuple(named))
        object.__setattr__(self, "repeated", tuple(each.name for each in self.query if each.repeated))
        for other in self.by_type.values():
            if (other.method, other.path, other.scope) != (self.method, self.path, self.scope):
                raise ValueError(f"{self.method} {self.path} must not depend on the type of the body")

    @property
    def changes(self) -> bool:
        """
        Whether a request may change something. A refusal then has to say whether it did.
        """
        return self.method != "GET" and not self.reads

    def of_type(self, headers: Mapping[bytes, Sequence[bytes]]) -> "Route":
        """
        The route for a request with these headers: this one, unless another takes that type of body.
        """
        if b"content-type" not in headers or headers[b"content-type"][0] == b"application/json":
            # Most requests: they need not pay for the others.
            return self
        return self.by_type.get(media_type(headers), self)

"""
What the OpenAPI document says whatever routes there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from dcounter.errors import Outcome
from dcounter.store import Ack

_Schema = dict[str, Any]

DESCRIPTION: Final = (
    "Counts items per tenant, exactly. A request for which there is no operation here is answered with the"
    " response UnknownPath, WrongMethod or UnknownMethod of the components. HEAD works where GET does. Every"
    " answer has `Cache-Control: no-store`, except for the files of the page `/`. A daemon that was started"
    " with `--cors-origin` also answers the questions of browsers (OPTIONS with"
    " `Access-Control-Request-Method`) about pages of that site."
)


def _object(required: str, **properties: _Schema) -> _Schema:
    """
    The schema of an object.

    :param required: names of properties, separated by spaces.
    """
    return {"type": "object", "required": required.split(), "properties": properties}


def _text(description: str, **more: Any) -> _Schema:
    return {"type": "string", "description": description, **more}


def _number(description: str, **more: Any) -> _Schema:
    return {"type": "integer", "description": description, **more}


_MISTAKE: Final = _object(
    "field message",
    index=_number("The item's index in the request, from 0."),
    line=_number("The number of the line in a load, from 1."),
    field=_text("The JSON field that is wrong; empty if the item as a whole is."),
    message=_text("What is wrong with it."),
)
PROBLEM: Final = {
    **_object(
        "type title status detail code message retryable",
        type=_text("`urn:problem-type:dcounter:` and the `code`.", format="uri"),
        title=_text("What happened, in a few words."),
        status=_number("The status of the answer."),
        detail=_text("What was wrong, and where."),
        code=_text("The kind of refusal, for programs: it never changes."),
        message=_text("The same as `detail`."),
        retryable={
            "type": "boolean",
            "description": "Whether the same request may succeed if it is sent again later. Whether to repeat"
            " it is harmless is told by `outcome`.",
        },
        outcome={
            "enum": get_args(Outcome),
            "description": "What became of a request that changes something: nothing was changed"
            " (`not_applied`), that is not known (`unknown`), the items are `stored`, though not as"
            " requested, or only a part of it was done (`partial`).",
        },
        errors={"type": "array", "items": _MISTAKE, "description": "The first mistakes, at most 100."},
        position=_text("A token for what is stored, or at which the answer is true."),
        lastUpdateDt=_text("The stamp to repeat the request with.", format="date-time"),
        items=_number("How many items are stored."),
        items_stored=_number("How many items are known to be stored."),
        next_line=_number("The first line of a load that is not known to be stored."),
        invalid=_number("How many lines were invalid."),
        deleted=_number("How many items of the tenant are known to be deleted."),
        before=_text("Items with stamps up to this one may be refused from now on.", format="date-time"),
        floor=_text("Deletions up to this stamp are forgotten: items need later ones.", format="date-time"),
        reached={"enum": get_args(Ack), "description": "Which nodes have written the items."},
        complete={"type": "boolean", "description": "`false` if the answer is not exact."},
        counter_so_far={"type": ["integer", "null"], "description": "The best count that is known."},
        exact={"type": "boolean", "description": "Whether counts are exact."},
        missing={
            "type": "array",
            "items": {"type": "integer"},
            "description": "Ids of the nodes whose items are unaccounted for.",
        },
        warnings={
            "type": "array",
            "items": {"type": "string"},
            "description": "What an operator should look at, one sentence each.",
        },
    ),
    "description": "What went wrong (RFC 9457).",
}

HEADERS: Final = {
    "Accept-Encoding": "The encodings in which bodies are accepted; `identity`: without any.",
    "Access-Control-Allow-Origin": "The `Origin` of the request, if the daemon was told with `--cors-origin`"
    " that pages of that site may call. Such answers also have `Access-Control-Expose-Headers` and `Vary`.",
    "Allow": "The methods that this path has.",
    "Deprecation": "Since when this path is deprecated (RFC 9745): `@` and seconds since 1970. Not on answers"
    " that come before the path is known.",
    "ETag": "Names this state of the file. With it in `If-None-Match`, the answer is 304 while the file is"
    " the same.",
    "Link": 'The path to use instead, with `rel="successor-version"`; where `Deprecation` is.',
    "RateLimit": "What is left: `r` requests, and all of them again after `t` seconds. On answers to a token"
    " that may not ask as often as it likes.",
    "RateLimit-Policy": "What the token permits: `q` requests at once, and as many in each `w` seconds.",
    "Retry-After": "Seconds after which to send the request again.",
    "traceparent": "That of the request.",
    "WWW-Authenticate": "`Bearer`; with `error` if a token was shown (RFC 6750).",
    "X-Request-ID": "That of the request.",
}
"""
Headers of answers, and their descriptions.
"""

OF_ANY: Final = ("X-Request-ID", "traceparent", "Access-Control-Allow-Origin")
OF_LIMITED: Final = ("RateLimit", "RateLimit-Policy")
OF_STATUS: Final[Mapping[int, Sequence[str]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    415: ("Accept-Encoding",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
OF_DEPRECATED: Final = ("Deprecation", "Link")
OF_KEPT: Final = ("ETag",)

REQUEST_HEADERS: Final = {
    "X-Request-ID": "A name for the request, of 1 to 128 visible ASCII characters: the answer and log lines"
    " repeat it. Anything else is ignored.",
    "traceparent": "The same, in the form of the W3C Trace Context.",
}

SECURITY: Final = {
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token in the file `operator-token` of the data directory, from the daemon's"
        " machine.",
    },
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of the file that the daemon was started with, if it was: then requests"
        " without one are refused.",
    },
}

"""
Makes the OpenAPI 3.1 document of the API from the table of routes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final, get_args

import msgspec

from dcounter.errors import MalformedBody, Outcome, Refusal
from dcounter.http.problems import (
    BadParameter,
    BadPath,
    BadRequest,
    BodyTooLarge,
    Forbidden,
    ForeignOrigin,
    InternalError,
    Overloaded,
    RequestTimeout,
    TooManyRequests,
    Unauthenticated,
    UnknownHost,
    UnknownPath,
    UnsupportedEncoding,
    WrongMethod,
)
from dcounter.http.table import Parameter, Route
from dcounter.store import Ack

_Schema = dict[str, Any]

_ANY_ROUTE: Final = (
    BadRequest,
    BadPath,
    BadParameter,
    ForeignOrigin,
    UnknownHost,
    # A request for any path may have a body.
    RequestTimeout,
    BodyTooLarge,
    UnsupportedEncoding,
    InternalError,
    Overloaded,
)
"""
Refusals that a route's function does not raise, and that any route may answer with.
"""

_NO_ROUTE: Final = (UnknownPath, WrongMethod)
"""
Refusals of requests for which there is no operation.
"""

_NAMES: Final = "#/components/schemas/{name}"


def _object(required: str, **properties: _Schema) -> _Schema:
    """
    The schema of an object.

    :param required: names of properties, separated by spaces.
    """
    return {"type": "object", "required": required.split(), "properties": properties}


_INTEGER: Final = {"type": "integer"}
_TEXT: Final = {"type": "string"}
_NODES: Final = {"type": "array", "items": _INTEGER}

_PROBLEM: Final = _object(
    "type title status detail code message",
    type=_TEXT,
    title=_TEXT,
    status=_INTEGER,
    detail=_TEXT,
    code=_TEXT,
    message=_TEXT,
    outcome={"enum": get_args(Outcome)},
    errors={
        "type": "array",
        "items": _object("field message", index=_INTEGER, line=_INTEGER, field=_TEXT, message=_TEXT),
    },
    position=_TEXT,
    lastUpdateDt={"type": "string", "format": "date-time"},
    items=_INTEGER,
    items_stored=_INTEGER,
    next_line=_INTEGER,
    invalid=_INTEGER,
    reached={"enum": get_args(Ack)},
    complete={"type": "boolean"},
    counter_so_far={"type": ["integer", "null"]},
    exact={"type": "boolean"},
    missing=_NODES,
    warnings={"type": "array", "items": _TEXT},
)

_OF_STATUS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "`Bearer`; with `error` if a token was shown (RFC 6750)."},
    405: {"Allow": "The methods that this path has."},
    415: {"Accept-Encoding": "The encodings in which bodies are accepted; `identity`: without any."},
    429: {
        "Retry-After": "Seconds after which to send the request again.",
        "RateLimit": "What is left: `r` requests, and all of them again after `t` seconds. Also on other"
        " answers to a token that may not ask as often as it likes.",
        "RateLimit-Policy": "What the token permits: `q` requests at once, and as many in each `w` seconds.",
    },
    503: {"Retry-After": "Seconds after which to send the request again."},
}
_OF_DEPRECATED: Final = {
    "Deprecation": "Since when this path is deprecated (RFC 9745): `@` and seconds since 1970. Not on answers"
    " that come before the path is known.",
    "Link": 'The path to use instead, with `rel="successor-version"`; where `Deprecation` is.',
}
"""
Headers of answers and their descriptions: those of a status, and those of deprecated paths.
"""


def document(routes: Sequence[Route]) -> _Schema:
    """
    The OpenAPI document for these routes.
    """
    described = [
        each
        for route in routes
        for one in _ways(route)
        for each in (one.answer, one.answer_in_part, one.body)
        if _is_type(each)
    ]
    schemas, components = msgspec.json.schema_components(described, ref_template=_NAMES)
    found = {id(each): schema for each, schema in zip(described, schemas, strict=True)}

    def schema(described: Any) -> _Schema:
        return found[id(described)] if _is_type(described) else described

    paths: dict[str, _Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dcounter",
            "version": "1",
            "description": (
                "Counts items per tenant, exactly. A request for which there is no operation here is answered"
                " with the response UnknownPath or WrongMethod of the components."
            ),
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token in the file `operator-token` of the data directory, from the"
                    " daemon's machine.",
                },
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the file that the daemon was started with, if it was: then"
                    " requests without one are refused.",
                },
            },
            "responses": {kind.__name__: _problem([kind]) for kind in _NO_ROUTE},
            "schemas": {**{name: _brief(each) for name, each in components.items()}, "Problem": _PROBLEM},
        },
    }


def refusals(route: Route) -> set[type[Refusal]]:
    """
    Every refusal that a route may answer with.
    """
    found = {*_ANY_ROUTE, *route.refusals}
    for other in route.by_type.values():
        found |= refusals(other)
    if route.body is not None:
        found.add(MalformedBody)
    if route.scope != "anyone":
        found |= {Unauthenticated, Forbidden, TooManyRequests}
    return found


def _brief(schema: _Schema) -> _Schema:
    """
    A schema with the first paragraph of its description, which is a docstring: the rest is for our readers.
    """
    text = schema.get("description", "").partition("\n\n")[0]
    return {**schema, "description": " ".join(text.split())}


def _is_type(described: Any) -> bool:
    return described is not None and not isinstance(described, dict)


def _operation(route: Route, schema: Any) -> _Schema:
    ways = _ways(route)
    found: _Schema = {"summary": " ".join(way.summary for way in ways)}
    query = {each.name: each for way in ways for each in way.query}
    parameters = [*_parameters(route.segments, "path"), *_parameters(query.values(), "query")]
    if parameters:
        found["parameters"] = parameters
    if route.body is not None:
        content = {way.content_type: {"schema": schema(way.body)} for way in ways}
        found["requestBody"] = {"required": True, "content": content}
    if route.scope != "anyone":
        # An empty object stands for a request without a token.
        without: _Schema = {"operator": []} if route.scope == "admin" else {}
        found["security"] = [without, {"token": [route.scope]}]
    if route.successor:
        found["deprecated"] = True
    more = _OF_DEPRECATED if route.successor else {}
    kinds = sorted(refusals(route), key=lambda kind: (kind.status, kind.code))
    answers = [schema(way.answer) for way in ways]
    found["responses"] = {"200": _success(HTTPStatus.OK, answers, more, route.answer_type)}
    in_part = [schema(way.answer_in_part) for way in ways if way.answer_in_part is not None]
    if in_part:
        found["responses"]["207"] = _success(HTTPStatus.MULTI_STATUS, in_part, more)
    for status, group in groupby(kinds, key=lambda kind: kind.status):
        found["responses"][str(status)] = _problem([*group], more)
    return found


def _ways(route: Route) -> Sequence[Route]:
    """
    A route and those that take other types of bodies.
    """
    return [route, *route.by_type.values()]


def _success(
    status: HTTPStatus,
    schemas: Sequence[_Schema],
    headers: Mapping[str, str],
    content_type: str = "application/json",
) -> _Schema:
    """
    The response of a request that succeeds.

    :param schemas: those that its body may have.
    :param headers: headers that it may have, and their descriptions.
    """
    found: _Schema = {
        "description": status.phrase,
        "content": {content_type: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}},
    }
    if headers:
        found["headers"] = _headers(headers)
    return found


def _parameters(parameters: Iterable[Parameter], where: str) -> Iterator[_Schema]:
    for each in parameters:
        yield {
            "name": each.name,
            "in": where,
            "required": where == "path",
            "schema": {"enum": list(each.values)} if each.values else each.schema,
            "description": each.description,
        }


def _problem(kinds: Sequence[type[Refusal]], headers: Mapping[str, str] = MappingProxyType({})) -> _Schema:
    """
    The response for refusals of one status: the codes that it may have.

    :param headers: headers that the answer may have because of its path, and their descriptions.
    """
    found: _Schema = {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
        "content": {"application/problem+json": {"schema": {"$ref": _NAMES.format(name="Problem")}}},
    }
    headers = {**_OF_STATUS.get(kinds[0].status, {}), **headers}
    if headers:
        found["headers"] = _headers(headers)
    return found


def _headers(described: Mapping[str, str]) -> _Schema:
    return {name: {"description": text, "schema": _TEXT} for name, text in described.items()}

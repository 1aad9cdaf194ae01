"""
Makes the OpenAPI 3.1 document of the API from the table of routes.
"""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, get_args

import msgspec

from dcounter.errors import MalformedBody, Refusal
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
    UnknownHost,
    UnsupportedEncoding,
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
    InternalError,
    Overloaded,
)
_WITH_BODY: Final = (RequestTimeout, BodyTooLarge, UnsupportedEncoding, MalformedBody)
"""
Refusals before the route's function runs: on every route, and on routes with a body.
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
    outcome={"enum": ["not_applied", "unknown", "stored"]},
    errors={
        "type": "array",
        "items": _object("index field message", index=_INTEGER, field=_TEXT, message=_TEXT),
    },
    position=_TEXT,
    items=_INTEGER,
    items_stored=_INTEGER,
    reached={"enum": get_args(Ack)},
    counter_so_far={"type": ["integer", "null"]},
    exact={"type": "boolean"},
    missing=_NODES,
    warnings={"type": "array", "items": _TEXT},
)


def document(routes: Sequence[Route]) -> _Schema:
    """
    The OpenAPI document for these routes.
    """
    described = [each for route in routes for each in (route.answer, route.body) if _is_type(each)]
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
            "description": "Counts items per tenant, exactly.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token in the file `operator-token` of the data directory.",
                }
            },
            "schemas": {**components, "Problem": _PROBLEM},
        },
    }


def refusals(route: Route) -> set[type[Refusal]]:
    """
    Every refusal that a route may answer with.
    """
    found = {*_ANY_ROUTE, *route.refusals}
    if route.body is not None:
        found.update(_WITH_BODY)
    if route.scope != "anyone":
        found.add(Forbidden)
    return found


def _is_type(described: Any) -> bool:
    return described is not None and not isinstance(described, dict)


def _operation(route: Route, schema: Any) -> _Schema:
    found: _Schema = {"summary": route.summary}
    parameters = [*_parameters(route.segments, "path"), *_parameters(route.query, "query")]
    if parameters:
        found["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": schema(route.body)}}
        found["requestBody"] = {"required": True, "content": content}
    if route.scope != "anyone":
        found["security"] = [{route.scope: []}]
    if route.successor:
        found["deprecated"] = True
    ok = {
        "description": HTTPStatus.OK.phrase,
        "content": {"application/json": {"schema": schema(route.answer)}},
    }
    found["responses"] = {"200": ok, **dict(_problems(refusals(route)))}
    return found


def _parameters(parameters: Iterable[Parameter], where: str) -> Iterator[_Schema]:
    for each in parameters:
        yield {
            "name": each.name,
            "in": where,
            "required": where == "path",
            "schema": {"enum": list(each.values)} if each.values else _TEXT,
            "description": each.description,
        }


def _problems(kinds: Iterable[type[Refusal]]) -> Iterator[tuple[str, _Schema]]:
    """
    The responses for these refusals: for each status, the codes that it may have.
    """
    meanings: dict[int, list[str]] = {}
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.code)):
        meanings.setdefault(kind.status, []).append(f"`{kind.code}`: {kind.title}")
    for status, texts in meanings.items():
        yield (
            str(status),
            {
                "description": "; ".join(texts),
                "content": {"application/problem+json": {"schema": {"$ref": _NAMES.format(name="Problem")}}},
            },
        )

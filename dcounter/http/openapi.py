"""
Makes the OpenAPI 3.1 document of the API from the table of routes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

import msgspec

from dcounter.errors import MalformedBody, Outcome, Refusal
from dcounter.http.descriptions import described
from dcounter.http.examples import examples_of, values_of
from dcounter.http.openapi_components import (
    DESCRIPTION,
    HEADERS,
    OF_ANY,
    OF_DEPRECATED,
    OF_KEPT,
    OF_LIMITED,
    OF_STATUS,
    PROBLEM,
    REQUEST_HEADERS,
    SECURITY,
)
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
    UnknownMethod,
    UnknownPath,
    UnsupportedEncoding,
    WrongMethod,
)
from dcounter.http.refusal_examples import example_of
from dcounter.http.route import Parameter, Route

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

_NO_ROUTE: Final = (UnknownPath, WrongMethod, UnknownMethod)
"""
Refusals of requests for which there is no operation.
"""

_NAMES: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_PROBLEM_TYPE: Final = "application/problem+json"

_GROUPS: Final[Mapping[str, str]] = {
    "items": "Items",
    "export": "Items",
    "counts": "Counts",
    "tenants": "Tenants",
    "stats": "Counts",
    "events": "Changes",
    "audit": "Proof",
    "cluster": "Cluster",
}
"""
What routes are about, by the first segment of their paths.
"""
_OTHERS: Final = "Daemon"


def document(routes: Sequence[Route], defaults: Mapping[str, str] | None = None) -> _Schema:
    """
    The OpenAPI document for these routes.

    :param defaults: parameter -> the value that counts if it is left out, where the daemon's options set it.
    """
    types = [
        each
        for route in routes
        for one in ways(route)
        for each in (one.answer, one.answer_in_part, one.body)
        if _is_type(each)
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=_NAMES)
    found = {id(each): schema for each, schema in zip(types, schemas, strict=True)}

    def schema(what: Any) -> _Schema:
        return found[id(what)] if _is_type(what) else what

    making = _Making(schema, defaults or {})
    paths: dict[str, _Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = making.operation(route)
    alone = {kind.__name__: making.problem([kind]) for kind in _NO_ROUTE}
    groups = dict.fromkeys(map(group_of, routes))
    return {
        "openapi": "3.1.0",
        "info": {"title": "dcounter", "version": "1", "description": DESCRIPTION},
        "tags": [{"name": each} for each in groups],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY,
            "responses": {**alone, **making.responses},
            "parameters": {
                name: {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
                for name, text in REQUEST_HEADERS.items()
            },
            "headers": {
                name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
            },
            "examples": making.examples,
            "schemas": {**{name: described(each) for name, each in components.items()}, "Problem": PROBLEM},
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


def group_of(route: Route) -> str:
    """
    What a route is about, in a word.
    """
    return _GROUPS.get(route.path.split("/")[1], _OTHERS)


def name_of(route: Route) -> str:
    """
    The name of a route in programs that are made from the document.
    """
    words = "_dashboard" if route.path == "/" else route.path.replace("/", "_").replace("-", "_")
    return route.method.lower() + words.replace("{", "").replace("}", "").replace(".", "_")


def ways(route: Route) -> Sequence[Route]:
    """
    A route and those that take other types of bodies.
    """
    return [route, *route.by_type.values()]


def _is_type(what: Any) -> bool:
    return what is not None and not isinstance(what, dict)


class _Making:
    """
    A document that is being made.

    :param schema: the schema of a type.
    :ivar examples: of refusals, to which responses refer.
    :ivar responses: of refusals, to which operations refer.
    """

    def __init__(self, schema: Any, defaults: Mapping[str, str]) -> None:
        self._schema = schema
        self._defaults = defaults
        self.examples: dict[str, _Schema] = {}
        self.responses: dict[str, _Schema] = {}
        self._names: dict[bytes, str] = {}

    def operation(self, route: Route) -> _Schema:
        all_ways = ways(route)
        found: _Schema = {
            "operationId": name_of(route),
            "tags": [group_of(route)],
            "summary": " ".join(way.summary for way in all_ways),
        }
        # What the first way has counts: another may take fewer values of the same parameter.
        query = {each.name: each for way in reversed(all_ways) for each in reversed(way.query)}
        values = values_of(route)
        found["parameters"] = [
            *self._parameters(route.segments, "path", values),
            *self._parameters(reversed(query.values()), "query", values),
            *({"$ref": f"#/components/parameters/{name}"} for name in REQUEST_HEADERS),
        ]
        if route.body is not None:
            content = {way.content_type: self._body(way) for way in all_ways}
            found["requestBody"] = {"required": True, "content": content}
        if route.scope != "anyone":
            # An empty object stands for a request without a token.
            without: _Schema = {"operator": []} if route.scope == "admin" else {}
            found["security"] = [without, {"token": [route.scope]}]
        if route.successor:
            found["deprecated"] = True
        found["responses"] = self._responses(route)
        return found

    def _body(self, way: Route) -> _Schema:
        found: _Schema = {"schema": self._schema(way.body)}
        # JSON as such, lines as one text.
        bodies = {
            f"example{number}": {
                "value": msgspec.json.decode(each.body) if way.content_type == _JSON else each.body
            }
            for number, each in enumerate(examples_of(way), 1)
        }
        if bodies:
            found["examples"] = bodies
        return found

    def _parameters(
        self, parameters: Iterable[Parameter], where: str, values: Mapping[str, str]
    ) -> Iterator[_Schema]:
        for each in parameters:
            schema = {"type": "string", "enum": list(each.values)} if each.values else dict(each.schema)
            default = self._defaults.get(each.name, each.default)
            if default is not None:
                schema["default"] = default
            found = {
                "name": each.name,
                "in": where,
                "required": where == "path",
                "schema": schema,
                "description": each.description,
            }
            if each.name in values:
                value = values[each.name]
                found["example"] = int(value) if schema.get("type") == "integer" else value
            yield found

    def _responses(self, route: Route) -> _Schema:
        all_ways = ways(route)
        headers = [*OF_ANY]
        if route.scope != "anyone":
            headers += OF_LIMITED
        if route.successor:
            headers += OF_DEPRECATED
        kept = [*OF_KEPT, *headers] if route.revalidates else headers
        found = {"200": self._success(HTTPStatus.OK, [(way, way.answer) for way in all_ways], kept)}
        in_part = [(way, way.answer_in_part) for way in all_ways if way.answer_in_part is not None]
        if in_part:
            found["207"] = self._success(HTTPStatus.MULTI_STATUS, in_part, headers)
        if route.revalidates:
            found["304"] = {"description": HTTPStatus.NOT_MODIFIED.phrase, "headers": _headers(kept)}
        outcome: Outcome | None = "not_applied" if route.changes else None
        kinds = sorted(refusals(route), key=lambda kind: (kind.status, kind.code))
        for status, group in groupby(kinds, key=lambda kind: kind.status):
            found[str(status)] = self._shared(status, self.problem([*group], headers, outcome))
        return found

    def _shared(self, status: int, response: _Schema) -> _Schema:
        """
        A reference to a response, which many routes have in common.
        """
        key = msgspec.json.encode(response)
        if key not in self._names:
            same = sum(name.startswith(f"{status}.") for name in self.responses)
            self._names[key] = f"{status}.{same + 1}"
            self.responses[self._names[key]] = response
        return {"$ref": f"#/components/responses/{self._names[key]}"}

    def _success(
        self, status: HTTPStatus, answers: Sequence[tuple[Route, Any]], headers: Sequence[str]
    ) -> _Schema:
        """
        The response of a request that succeeds.

        :param answers: what its body may be, and by which way.
        """
        content: dict[str, _Schema] = {}
        for way, answer in answers:
            one = content.setdefault(way.answer_type, {"schema": {"anyOf": []}})
            one["schema"]["anyOf"].append(self._schema(answer))
            if status == HTTPStatus.OK:
                shown = one.setdefault("examples", {})
                for each in examples_of(way):
                    shown[f"example{len(shown) + 1}"] = {"value": msgspec.to_builtins(each.answer)}
        for one in content.values():
            if len(one["schema"]["anyOf"]) == 1:
                [one["schema"]] = one["schema"]["anyOf"]
            if not one.get("examples"):
                one.pop("examples", None)
        return {"description": status.phrase, "headers": _headers(headers), "content": content}

    def problem(
        self,
        kinds: Sequence[type[Refusal]],
        headers: Sequence[str] = OF_ANY,
        outcome: Outcome | None = None,
    ) -> _Schema:
        """
        The response for refusals of one status: the codes that it may have.

        :param headers: headers that the answer may have whatever its status.
        :param outcome: what became of the request, where the refusal does not tell.
        """
        examples = {}
        for kind in kinds:
            name = kind.code if kind.outcome or not outcome else f"{kind.code}.{outcome}"
            self.examples[name] = {
                "summary": kind.title,
                "description": described({"description": kind.__doc__ or ""})["description"],
                "value": example_of(kind, outcome),
            }
            examples[kind.code] = {"$ref": f"#/components/examples/{name}"}
        code = {"enum": [kind.code for kind in kinds]}
        schema = {"$ref": _NAMES.format(name="Problem"), "properties": {"code": code}}
        return {
            "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
            "headers": _headers([*OF_STATUS.get(kinds[0].status, ()), *headers]),
            "content": {_PROBLEM_TYPE: {"schema": schema, "examples": examples}},
        }


def _headers(names: Iterable[str]) -> _Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}

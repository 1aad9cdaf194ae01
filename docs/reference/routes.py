"""
The reference of the HTTP API, from the OpenAPI document that a daemon serves.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from dcounter.http.docs_examples import curl
from dcounter.http.examples import examples_of
from dcounter.http.openapi import document, group_of, ways
from dcounter.http.route import Route
from dcounter.http.schemas import Schema, Schemas, answers
from dcounter.http.table import ROUTES
from docs.reference.markdown import block, code, pretty, table

_DEEPEST: Final = 3
"""
How many objects within objects are shown.
"""


def openapi() -> Schema:
    """
    The OpenAPI document of a daemon with the usual defaults.
    """
    return document(ROUTES, {"ack": "node", "consistency": "exact"})


def routes() -> str:
    """
    Every route: parameters, body, answers, refusals, examples.
    """
    return _Reference(openapi()).routes(ROUTES)


def refusals() -> str:
    """
    Every refusal, with an example.
    """
    return _Reference(openapi()).refusals()


class _Reference:
    """
    The reference of the routes in a document.
    """

    def __init__(self, document: Schema) -> None:
        self._document = document
        self._schemas = Schemas(document)

    def routes(self, all_routes: Sequence[Route]) -> str:
        groups = dict.fromkeys(map(group_of, all_routes))
        return "".join(
            f"## {group}\n\n" + "".join(self._route(each) for each in all_routes if group_of(each) == group)
            for group in groups
        )

    def refusals(self) -> str:
        shown = {each["value"]["code"]: each for each in self._document["components"]["examples"].values()}
        ordered = sorted(shown.values(), key=lambda each: (each["value"]["status"], each["value"]["code"]))
        return "".join(map(_refusal, ordered))

    def _route(self, route: Route) -> str:
        operation = self._document["paths"][route.path][route.method.lower()]
        return "".join(
            [
                f"### {route.method} {route.path}\n\n{operation['summary']}\n\n",
                _notes(route),
                self._parameters(operation),
                self._body(operation),
                self._answers(operation),
                self._refused(operation),
                _examples(route),
            ]
        )

    def _parameters(self, operation: Schema) -> str:
        found = [each for each in operation["parameters"] if "name" in each]
        rows = [
            (code(each["name"]), each["in"], self._words(each["schema"]), each["description"])
            for each in found
        ]
        return table(["parameter", "in", "values", "meaning"], rows)

    def _body(self, operation: Schema) -> str:
        parts = []
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = content["schema"]
            what = schema.get("description", "") if "$ref" not in schema else ""
            told = what or f"{self._words(schema).capitalize()}."
            parts.append(f"**Body**, {code(kind)}: {told}\n\n{self._fields(schema)}")
        return "".join(parts)

    def _answers(self, operation: Schema) -> str:
        parts = []
        for reference, statuses in answers(operation).items():
            schema = self._schemas.resolved({"$ref": reference})
            told = f"**Answer**, status {' or '.join(statuses)}: {schema['description']}"
            parts.append(f"{told}\n\n{self._fields(schema)}")
        return "".join(parts)

    def _refused(self, operation: Schema) -> str:
        parts = []
        for status, response in operation["responses"].items():
            content = self._schemas.resolved(response).get("content", {}).get("application/problem+json", {})
            codes = ", ".join(f"[{each}](#{each})" for each in content.get("examples", ()))
            if codes:
                parts.append(f"{status} {codes}")
        return f"**Refusals**: {'; '.join(parts)}.\n\n"

    def _fields(self, schema: Schema) -> str:
        return table(["field", "values", "meaning"], self._rows(schema))

    def _rows(self, schema: Schema, within: str = "", depth: int = 0) -> Iterator[tuple[str, str, str]]:
        """
        The fields of an object, and of those that are in it.
        """
        for name, each in self._schemas.properties(schema).items():
            yield code(within + name), self._words(each), each.get("description", "")
            if depth < _DEEPEST:
                yield from self._rows(each, f"{within}{name}.", depth + 1)

    def _words(self, schema: Schema) -> str:
        return self._schemas.words(schema, code)


def _notes(route: Route) -> str:
    notes = []
    if route.scope == "admin":
        notes.append("Only for operators: needs the operator's token, or one with the scope `admin`.")
    elif route.scope != "anyone":
        notes.append(f"Where tokens are required, needs one with the scope {code(route.scope)}.")
    if route.successor:
        notes.append(f"**Deprecated**: use {code(route.successor)}.")
    return f"{' '.join(notes)}\n\n" if notes else ""


def _examples(route: Route) -> str:
    parts = []
    for way in ways(route):
        for each in examples_of(way):
            note = f"{each.note[:1].upper()}{each.note[1:]}:\n\n" if each.note else ""
            language = "text" if isinstance(each.answer, str) else "json"
            answer = each.answer if isinstance(each.answer, str) else pretty(msgspec.to_builtins(each.answer))
            parts.append(note + block("sh", curl(way, each)) + block(language, answer.strip()))
    return "".join(parts)


def _refusal(shown: Schema) -> str:
    value = shown["value"]
    notes = [f"Status {value['status']}", "retryable" if value["retryable"] else "not retryable"]
    if "outcome" in value:
        notes.append(f"outcome {code(value['outcome'])}")
    return (
        f"### {value['code']}\n\n{shown['description']} {', '.join(notes)}.\n\n{block('json', pretty(value))}"
    )

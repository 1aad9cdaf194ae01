"""
Reads the schemas of the OpenAPI document, for pages that tell people what they say.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]

_KINDS: Final = {"string": "text", "boolean": "true or false"}


class Schemas:
    """
    The schemas of a document.

    :param document: the OpenAPI document to which their references refer.
    """

    def __init__(self, document: Schema) -> None:
        self._document = document

    def resolved(self, schema: Schema) -> Schema:
        """
        What a reference refers to.
        """
        if "$ref" not in schema:
            return schema
        found: Any = self._document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}

    def properties(self, schema: Schema) -> dict[str, Any]:
        """
        The properties of an object, or of the objects in a list, whichever of several kinds they are.
        """
        schema = self.resolved(schema)
        found = dict(schema.get("properties", {}))
        inside = schema.get("additionalProperties")
        nested = [schema.get("items"), inside if isinstance(inside, dict) else None]
        for each in [*filter(None, nested), *schema.get("oneOf", ()), *schema.get("anyOf", ())]:
            for name, one in self.properties(each).items():
                known = found.setdefault(name, one)
                if known is not one and "enum" in known:
                    found[name] = {**known, "enum": [*dict.fromkeys([*known["enum"], *_values(one)])]}
        return found

    def words(self, schema: Schema, code: Callable[[str], str]) -> str:
        """
        What values a schema allows, in words.

        :param code: how a value is shown on the page.
        """
        schema = self.resolved(schema)
        values = _values(schema)
        found = " | ".join(code(_text(each)) for each in values) if values else self._kind(schema)
        if "maximum" in schema and "format" not in schema:
            found += f" from {schema['minimum']} to {schema['maximum']:,}"
        default = schema.get("default")
        # An empty one is what a field has that is left out.
        if default or default in (0, False):
            found += f", default {code(_text(default))}"
        return found

    def _kind(self, schema: Schema) -> str:
        schema = self.resolved(schema)
        if "items" in schema:
            return f"list of {_plural(self._kind(schema['items']))}"
        if "anyOf" in schema:
            return " or ".join(dict.fromkeys(map(self._kind, schema["anyOf"])))
        if _values(schema):
            return "text"
        kinds = schema.get("type", "object")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        return " or ".join(_KINDS.get(each, each) for each in kinds)


def answers(operation: Schema) -> dict[str, list[str]]:
    """
    What an operation answers when it succeeds: references to schemas, with the statuses of each.
    """
    found: dict[str, list[str]] = {}
    for status, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            for each in content["schema"].get("anyOf", [content["schema"]]):
                if "$ref" in each:
                    found.setdefault(each["$ref"], []).append(status)
    return found


def _text(value: Any) -> str:
    """
    A value as it is written in a request, or as JSON.
    """
    return value if isinstance(value, str) else json.dumps(value)


def _values(schema: Schema) -> Sequence[Any]:
    """
    The values that a schema lists.
    """
    found: Sequence[Any] = schema.get("enum", [schema["const"]] if "const" in schema else ())
    return found


def _plural(kind: str) -> str:
    return kind if kind.startswith(("list", "text or")) else f"{kind}s"

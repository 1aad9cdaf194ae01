"""
Schemas in words, as the pages for people have them.
"""

from typing import Any

import pytest

from dcounter.http.schemas import Schemas, answers

_DOCUMENT: dict[str, Any] = {
    "components": {
        "schemas": {
            "State": {"enum": ["up", "down"]},
            "Node": {"type": "object", "properties": {"id": {"type": "integer"}}},
        }
    }
}
_STATE = {"$ref": "#/components/schemas/State"}
_NODE = {"$ref": "#/components/schemas/Node"}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "text"),
        ({"type": ["integer", "null"]}, "integer or null"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"anyOf": [_STATE, {"type": "null"}]}, "text or null"),
        ({"type": "array", "items": {"type": "string"}}, "list of texts"),
        ({"type": "array", "items": _STATE}, "list of texts"),
        ({"type": "array", "items": _NODE}, "list of objects"),
        (_STATE, "<up> | <down>"),
        ({"enum": [True, None]}, "<true> | <null>"),
        ({"const": "OK"}, "<OK>"),
        (
            {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100},
            "integer from 1 to 1,000, default <100>",
        ),
        ({"type": "boolean", "default": False}, "true or false, default <false>"),
        ({"type": "integer", "default": 0}, "integer, default <0>"),
        # What is left out has no value worth a word.
        ({"type": "string", "default": ""}, "text"),
        ({"type": ["string", "null"], "default": None}, "text or null"),
        ({"type": "array", "items": {"type": "string"}, "default": []}, "list of texts"),
    ],
)
def test_words(schema: dict[str, Any], words: str) -> None:
    assert Schemas(_DOCUMENT).words(schema, lambda text: f"<{text}>") == words


def test_properties_of_a_list_are_those_of_what_is_in_it() -> None:
    listed = {"type": "array", "items": _NODE}
    assert Schemas(_DOCUMENT).properties(listed) == {"id": {"type": "integer"}}
    assert Schemas(_DOCUMENT).properties({"additionalProperties": _NODE}) == {"id": {"type": "integer"}}


def test_values_of_several_kinds_are_told_together() -> None:
    kinds = [{"properties": {"event": {"enum": [name]}}} for name in ("count", "node", "count")]
    assert Schemas({}).properties({"anyOf": kinds}) == {"event": {"enum": ["count", "node"]}}


def test_an_answer_may_have_several_statuses() -> None:
    content = {"application/json": {"schema": {"anyOf": [_NODE, _STATE]}}}
    operation = {"responses": {"200": {"content": content}, "207": {"content": content}, "400": {}}}
    assert answers(operation) == {_NODE["$ref"]: ["200", "207"], _STATE["$ref"]: ["200", "207"]}

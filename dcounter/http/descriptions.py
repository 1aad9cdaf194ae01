"""
The texts of the OpenAPI document that are written beside the code: in the docstrings of its types.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_IVAR: Final = re.compile(r"^\s*:ivar (\w+):\s*", re.MULTILINE)
_FIELD: Final = re.compile(r"^\s*:\w+(?: \w+)?:", re.MULTILINE)

_USUAL: Final = {
    "complete": "`false` if the answer is not exact; left out if it is.",
    "counter": "How many items the tenant owns.",
    "ID": "The item's ID, from -2^63 to 2^63 - 1.",
    "message": "What is wrong, for people.",
    "missing": "Ids of the nodes whose items may be missing from the answer; left out if it is exact.",
    "node": "The id of the node.",
    "position": "A token. A later request with it in `after` sees everything that this answer shows.",
    "status": "What became of the request, in a word.",
    "tenant": "The tenant's name.",
}
"""
What properties mean whose types say nothing of them, since it is the same everywhere.
"""


def described(schema: Mapping[str, Any]) -> dict[str, Any]:
    """
    A schema that msgspec made of a type, with its docstring told in the way of a JSON schema.

    The first paragraph describes the object, each `:ivar` a property.
    """
    text = schema.get("description", "")
    ivars = dict(_ivars(text))
    properties = {
        name: _with_text(each, ivars.get(name) or _USUAL.get(name))
        for name, each in schema.get("properties", {}).items()
    }
    summary = _FIELD.split(text.partition("\n\n")[0])[0]
    found = {**schema, "description": in_one_line(summary)}
    return {**found, "properties": properties} if properties else found


def in_one_line(text: str) -> str:
    """
    A text without its line breaks.
    """
    return " ".join(text.split())


def _ivars(text: str) -> Iterator[tuple[str, str]]:
    _, *parts = _IVAR.split(text)
    for name, told in zip(parts[::2], parts[1::2], strict=True):
        sentence = _FIELD.split(told)[0].partition("\n\n")[0]
        yield name, as_sentence(sentence)


def as_sentence(text: str) -> str:
    """
    A text with a capital at the beginning; JSON has other names for Python's constants.
    """
    text = in_one_line(text)
    for name, constant in (("True", "true"), ("False", "false"), ("None", "null")):
        text = text.replace(f"`{name}`", f"`{constant}`")
    return text[:1].upper() + text[1:]


def _with_text(schema: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    return {**schema, "description": text} if text else {**schema}

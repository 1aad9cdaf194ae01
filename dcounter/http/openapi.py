"""
The API described for programs, as OpenAPI 3.1.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, get_args

from dcounter.store import Ack, Consistency

_Schema = dict[str, Any]


def _array(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _object(required: str, **properties: _Schema) -> _Schema:
    """
    :param required: names of properties, separated by blanks.
    """
    return {"type": "object", "required": required.split(), "properties": properties}


_INTEGER: Final = {"type": "integer"}
_INT64: Final = {"type": "integer", "format": "int64"}
_TEXT: Final = {"type": "string"}
_BOOLEAN: Final = {"type": "boolean"}
_MISSING: Final = _array(_INTEGER)
_WARNINGS: Final = _array(_TEXT)
_POSITION: Final = _TEXT | {"description": "An opaque token: what this answer saw or stored."}
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}

_TENANT: Final = _TEXT | {"minLength": 1, "description": "1 to 256 bytes of UTF-8."}
_STAMP: Final[_Schema] = {
    "type": ["string", "null"],
    "format": "date-time",
    "description": "The item's own stamp, up to nine digits of a second.",
}
_ITEM: Final = {
    "oneOf": [
        _object("ID tenant", ID=_INT64, tenant=_TENANT, lastUpdateDt=_STAMP),
        _object("id tenant", id=_INT64, tenant=_TENANT, lastUpdateDt=_STAMP),
    ]
}

_NODE: Final = _object(
    "id address pid state role run items items_taken applied durable lag refuses loading in_doubt",
    id=_INTEGER,
    address=_TEXT,
    pid={"type": ["integer", "null"]},
    state=_TEXT,
    role=_TEXT,
    run={"type": ["string", "null"]},
    items=_INTEGER,
    items_taken=_INTEGER,
    applied={"type": "object"},
    durable={"type": "object"},
    lag=_INTEGER,
    refuses={"type": ["string", "null"]},
    loading={"type": "boolean"},
    in_doubt={"type": "boolean"},
)


def _answer(status: HTTPStatus, schema: _Schema) -> _Schema:
    kind = "json" if status == HTTPStatus.OK else "problem+json"
    return {
        "description": status.phrase,
        "content": {f"application/{kind}": {"schema": schema}},
    }


_ANYWHERE: Final = ("400", "403", "500")


def _operation(summary: str, answer: _Schema, refusals: str, **more: Any) -> _Schema:
    """
    :param refusals: statuses, separated by blanks, besides those that any path may have.
    """
    answers = {"200": _answer(HTTPStatus.OK, answer)}
    for status in sorted({*_ANYWHERE, *refusals.split()}):
        answers[status] = _answer(HTTPStatus(int(status)), _PROBLEM)
    return {"summary": summary, **more, "responses": answers}


def _parameter(name: str, where: str, schema: _Schema, description: str) -> _Schema:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": schema,
        "description": description,
    }


def _body(schema: _Schema) -> _Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_AFTER: Final = _parameter("after", "query", _TEXT, "A position: the answer includes all that it covers.")

_PATHS: Final[Mapping[str, _Schema]] = {
    "/items": {
        "post": _operation(
            "Store items.",
            _object(
                "status items ack position",
                status={"const": "OK"},
                items=_INTEGER,
                ack={"enum": get_args(Ack)},
                position=_POSITION,
                warning=_TEXT,
            ),
            "408 410 413 415 422 503 504",
            parameters=[
                _parameter("ack", "query", {"enum": get_args(Ack)}, "How wide the items must be durable."),
                _AFTER,
            ],
            requestBody=_body(_array(_ITEM)),
        )
    },
    "/items/{tenant}/count": {
        "get": _operation(
            "Count a tenant's items.",
            _object(
                "counter tenant position",
                counter=_INTEGER,
                tenant=_TEXT,
                position=_POSITION,
                complete=_BOOLEAN,
                missing=_MISSING,
            ),
            "410 503",
            parameters=[
                _parameter("tenant", "path", _TEXT, "Percent-encoded UTF-8; `/` is `%2F`."),
                _parameter(
                    "consistency",
                    "query",
                    {"enum": get_args(Consistency)},
                    "What may be answered if the exact count cannot be had at once.",
                ),
                _AFTER,
            ],
        )
    },
    "/cluster": {
        "get": _operation(
            "Tell how the nodes are.",
            _object(
                "primary nodes clock_skew_ms cluster lost warnings",
                primary={"type": ["integer", "null"]},
                nodes=_array(_NODE),
                clock_skew_ms=_INTEGER,
                cluster=_TEXT,
                lost=_array({"type": "object"}),
                warnings=_WARNINGS,
            ),
            "",
        )
    },
    "/cluster/restart": {
        "post": _operation(
            "Stop a node and start it again; for the operator, on the daemon's machine.",
            _object("status node", status={"const": "OK"}, node=_INTEGER),
            "404 408 409 413 415 503",
            requestBody=_body(_object("node", node=_INTEGER)),
            security=[{"operator": []}],
        )
    },
    "/cluster/forget": {
        "post": _operation(
            "Give up a node for good; for the operator, on the daemon's machine.",
            _object("status node", status={"const": "OK"}, node=_INTEGER),
            "404 408 409 413 415 503 504",
            requestBody=_body(_object("node", node=_INTEGER)),
            security=[{"operator": []}],
        )
    },
    "/healthz": {
        "get": _operation("Tell that the process lives.", _object("status", status={"const": "OK"}), "")
    },
    "/readyz": {
        "get": _operation(
            "Tell whether callers should be sent here.",
            _object("exact missing warnings", exact=_BOOLEAN, missing=_MISSING, warnings=_WARNINGS),
            "503",
        )
    },
    "/openapi.json": {"get": _operation("This document.", {"type": "object"}, "")},
}

DOCUMENT: Final[_Schema] = {
    "openapi": "3.1.0",
    "info": {
        "title": "dcounter",
        "version": "1",
        "description": "Counts items per tenant, exactly.",
    },
    "paths": _PATHS,
    "components": {
        "securitySchemes": {
            "operator": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token in the file `operator-token` of the data directory.",
            }
        },
        "schemas": {
            "Problem": _object(
                "type title status detail code message",
                type=_TEXT,
                title=_TEXT,
                status=_INTEGER,
                detail=_TEXT,
                code=_TEXT,
                message=_TEXT,
                outcome={"enum": ["not_applied", "unknown", "stored"]},
                errors=_array(_object("index field message", index=_INTEGER, field=_TEXT, message=_TEXT)),
                position=_POSITION,
                items=_INTEGER,
                items_stored=_INTEGER,
                reached={"enum": get_args(Ack)},
                counter_so_far={"type": ["integer", "null"]},
                exact=_BOOLEAN,
                missing=_MISSING,
                warnings=_WARNINGS,
            )
        },
    },
}

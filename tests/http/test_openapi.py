"""
The OpenAPI document is valid, complete, and says what the daemon does.
"""

import re
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from dcounter.errors import Refusal
from dcounter.http.examples import EXAMPLES, examples_of
from dcounter.http.limits import HttpLimits
from dcounter.http.openapi import refusals, ways
from dcounter.http.problems import problem
from dcounter.http.refusal_examples import REFUSALS
from dcounter.http.server import make_api
from dcounter.http.table import ROUTES
from dcounter.testing.http import MemoryStore
from tests.support.kinds import PROBLEMS, kinds

Json = Any
DOCUMENTS = {"/", "/dashboard/{file}", "/openapi.json", "/docs"}


def made(store: MemoryStore | None = None, **options: Any) -> Json:
    """
    The document of a daemon.
    """
    return msgspec.json.decode(make_api(store or MemoryStore(), **options).document)


@pytest.fixture(scope="module")
def document() -> Json:
    return made()


class TestDocument:
    def test_is_served(self, document: Json) -> None:
        assert document["openapi"] == "3.1.0"

    def test_holds_each_route(self, document: Json) -> None:
        paths = document["paths"]
        assert {(route.method, route.path) for route in ROUTES} == {
            (method.upper(), path) for path, operations in paths.items() for method in operations
        }

    def test_leads_nowhere_in_vain(self, document: Json) -> None:
        named = re.findall(r'"\$ref": ?"([^"]*)"', msgspec.json.encode(document).decode())
        assert len(named) > len(ROUTES)
        for name in named:
            assert resolved(document, {"$ref": name})
        parts = document["components"]
        there = {
            f"#/components/{kind}/{name}"
            for kind in ("schemas", "examples", "headers", "parameters", "responses")
            for name in parts[kind]
        }
        alone = {f"#/components/responses/{name}" for name in ("UnknownPath", "WrongMethod", "UnknownMethod")}
        assert there - {*named} == alone

    def test_says_what_each_path_leaves_open(self, document: Json) -> None:
        for path, operations in document["paths"].items():
            for operation in operations.values():
                said = [each["name"] for each in operation["parameters"] if each.get("in") == "path"]
                assert said == re.findall(r"\{(\w+)\}", path)

    def test_says_who_may(self, document: Json) -> None:
        paths = document["paths"]
        assert "403" in paths["/cluster/restart"]["post"]["responses"]
        assert paths["/cluster/restart"]["post"]["security"] == [{"operator": []}, {"token": ["admin"]}]
        assert paths["/items"]["post"]["security"] == [{}, {"token": ["write"]}]
        assert "security" not in paths["/healthz"]["get"]

    def test_speaks_of_schemas_in_sentences(self, document: Json) -> None:
        schemas = document["components"]["schemas"]
        texts = {name: each["description"] for name, each in schemas.items() if name != "Problem"}
        assert texts["NodeStatus"] == "One node as the coordinator sees it."
        assert all(re.fullmatch(r"[A-Z][^\n:]*\.", text) for text in texts.values())

    def test_names_no_number_of_a_limit_that_can_be_set(self, document: Json) -> None:
        text = msgspec.json.encode(document["paths"]).decode()
        assert str(HttpLimits().max_tenant_bytes) not in text

    @pytest.mark.parametrize("status", ["408", "413", "415", "503"])
    def test_says_what_any_path_may_answer(self, document: Json, status: str) -> None:
        for operations in document["paths"].values():
            assert all(status in each["responses"] for each in operations.values())

    def test_describes_the_headers_of_answers(self, document: Json) -> None:
        any_of = {"X-Request-ID", "traceparent", "Access-Control-Allow-Origin"}
        limited = any_of | {"RateLimit", "RateLimit-Policy"}

        def headers(path: str, status: str) -> set[str]:
            return {*resolved(document, document["paths"][path]["post"]["responses"][status])["headers"]}

        assert headers("/cluster/forget", "200") == limited | {"Deprecation", "Link"}
        assert headers("/cluster/forget", "503") == limited | {"Deprecation", "Link", "Retry-After"}
        assert headers("/cluster/remove", "200") == limited
        assert headers("/cluster/remove", "415") == limited | {"Accept-Encoding"}
        assert headers("/cluster/remove", "401") == limited | {"WWW-Authenticate"}
        parts = document["components"]
        assert {*parts["responses"]["WrongMethod"]["headers"]} == any_of | {"Allow"}
        assert all(
            each["description"].endswith(".") or "RFC" in each["description"]
            for each in parts["headers"].values()
        )

    def test_says_which_paths_will_go(self, document: Json) -> None:
        paths = document["paths"]
        assert [path for path, each in paths.items() if each.get("post", {}).get("deprecated")] == [
            "/cluster/forget"
        ]

    def test_is_valid(self, document: Json) -> None:
        assert [str(each) for each in OpenAPIV31SpecValidator(document).iter_errors()] == []

    def test_names_each_operation(self, document: Json) -> None:
        names = [
            each["operationId"] for operations in document["paths"].values() for each in operations.values()
        ]
        assert len(set(names)) == len(names) == len(ROUTES)
        assert all(re.fullmatch(r"[a-z]+_\w+", name) for name in names)

    def test_describes_each_property(self, document: Json) -> None:
        for name, schema in document["components"]["schemas"].items():
            for field, each in schema["properties"].items():
                text = each.get("description", "")
                assert re.match("[A-Z`].*[.0-9a-z`]$", text), (name, field, text)
                assert ":ivar" not in text

    def test_a_description_is_the_one_in_the_code(self, document: Json) -> None:
        stored = document["components"]["schemas"]["Stored"]["properties"]
        assert stored["complete"]["description"] == (
            "`false` if receipts and counts are not exact; left out otherwise."
        )

    def test_the_defaults_are_those_of_the_daemon(self) -> None:
        found = made(ack="all", consistency="available")["paths"]

        def defaults(path: str, method: str) -> dict[str, str]:
            parameters = found[path][method]["parameters"]
            schemas = {each["name"]: each["schema"] for each in parameters if "name" in each}
            return {name: each["default"] for name, each in schemas.items() if "default" in each}

        assert defaults("/items", "post") == {"ack": "all", "receipt": "0", "partial": "0"}
        assert defaults("/tenants", "get") == {"consistency": "available", "sort": "name", "limit": 100}

    def test_describes_the_headers_of_requests(self, document: Json) -> None:
        for operations in document["paths"].values():
            for operation in operations.values():
                named = [each["$ref"] for each in operation["parameters"] if "$ref" in each]
                assert [each.rpartition("/")[2] for each in named] == ["X-Request-ID", "traceparent"]
        assert document["components"]["parameters"].keys() == {"X-Request-ID", "traceparent"}

    def test_has_no_path_that_the_store_does_not_serve(self) -> None:
        store = MemoryStore()
        store.capabilities = store.capabilities - {"look_up"}
        missing = {route.path for route in ROUTES if route.needs == "look_up" and route.path != "/items/{ID}"}
        found = made(store)["paths"]
        assert found.keys() == {route.path for route in ROUTES} - missing
        assert found["/items/{ID}"].keys() == {"delete"}


class TestExamples:
    @pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.code) for kind in kinds()])
    def test_each_refusal_has_one(self, document: Json, kind: type[Refusal]) -> None:
        [example] = [each for each in REFUSALS if type(each) is kind]
        shown = document["components"]["examples"]
        encoded = msgspec.json.decode(problem(example).body)
        found = [each["value"] for each in shown.values() if each["value"]["code"] == kind.code]
        assert found
        # What the route adds is the outcome, where the refusal has none of its own.
        assert all(each in (encoded, {**encoded, "outcome": "not_applied"}) for each in found)
        assert encoded["retryable"] is kind.retryable
        assert encoded.keys() <= document["components"]["schemas"]["Problem"]["properties"].keys()
        assert re.match(r"\S.*", encoded["detail"])

    def test_each_refusal_of_an_operation_has_one(self, document: Json) -> None:
        for route in ROUTES:
            responses = document["paths"][route.path][route.method.lower()]["responses"]
            shown = {}
            for status, response in responses.items():
                if int(status) >= 400:
                    found = resolved(document, response)["content"]["application/problem+json"]
                    codes = found["schema"]["properties"]["code"]["enum"]
                    assert codes == list(found["examples"])
                    for code in codes:
                        shown[code] = resolved(document, found["examples"][code])["value"]
            assert shown.keys() == {kind.code for kind in refusals(route)}
            for code, value in shown.items():
                assert value["code"] == code
                assert not route.changes or "outcome" in value or PROBLEMS[code].outcome

    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
    def test_each_route_has_one(self, route: Any) -> None:
        for way in ways(route):
            for each in examples_of(way):
                if not isinstance(way.answer, dict):
                    content = msgspec.json.encode(each.answer)
                    assert type(msgspec.json.decode(content, type=way.answer)) is way.answer
            assert examples_of(way) or way.path in DOCUMENTS

    def test_each_belongs_to_a_route(self) -> None:
        known = {(way.method, way.path, way.content_type) for route in ROUTES for way in ways(route)}
        assert EXAMPLES.keys() <= known


def resolved(document: Json, where: Json) -> Json:
    """
    What a reference refers to.
    """
    if "$ref" not in where:
        return where
    found = document
    for name in where["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found

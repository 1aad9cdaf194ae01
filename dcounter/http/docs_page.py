"""
Makes the page `/docs` from the OpenAPI document: the API for people, in one file that needs nothing else.

There is no script in it, and its security policy would let none run: what the page shows is all there is.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from dcounter.http.docs_examples import example, in_colours
from dcounter.http.docs_style import STYLE
from dcounter.http.examples import examples_of
from dcounter.http.openapi import group_of, name_of, ways
from dcounter.http.problems import Answer
from dcounter.http.route import Route
from dcounter.http.schemas import Schema, Schemas, answers

_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_HEADERS: Final = (
    (
        b"Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'".encode(),
    ),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
)
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cg fill='%230a5cad'%3E"
    "%3Crect x='1' y='8' width='4' height='7' rx='1'/%3E%3Crect x='6' y='4' width='4' height='11' rx='1'/%3E"
    "%3Crect x='11' y='1' width='4' height='14' rx='1'/%3E%3C/g%3E%3C/svg%3E"
)
_DEEPEST: Final = 3
_CODE: Final = re.compile("`([^`]+)`")
_VARIABLE: Final = re.compile(r"(\{\w+\})")
_INTRODUCTION: Final = """\
<h1>dcounter</h1>
<p class="lead">Counts items per tenant, exactly.</p>
<p>A <b>tenant</b> owns <b>items</b>. Storing an item gives its ID to a tenant; storing it again moves it. A
count includes every write that was answered before the count was asked for, whatever machines fail, or the
answer says that it is not exact.</p>
<p>Bodies and answers are JSON. Every answer that is no success is a <a href="#refusals">refusal</a>, which
says what was wrong, where, and whether anything was stored. <code>HEAD</code> works where <code>GET</code>
does.</p>
"""
_ABOUT_REFUSALS: Final = """\
<h2 id="refusals">Refusals</h2>
<p>A refusal is a problem document (RFC 9457). <code>code</code> is for programs and never changes.
<code>retryable</code> tells whether the same request may succeed if it is sent again later. Refusals of
requests that change something have an <code>outcome</code>:</p>
<dl class="fields outcomes">
<div><dt><code>not_applied</code></dt><dd>Nothing was changed.</dd></div>
<div><dt><code>unknown</code></dt><dd>It may be stored wholly, partly or not at all.</dd></div>
<div><dt><code>stored</code></dt><dd>The items are stored, but not as requested.</dd></div>
<div><dt><code>partial</code></dt><dd>A part was done, such as the first lines of a load.</dd></div>
</dl>
"""
_FOOTER: Final = """\
<footer class="quiet">Made by this daemon from its table of routes. The same for programs:
<a href="/openapi.json">openapi.json</a>.</footer>
"""


def docs_page(document: Schema, routes: Sequence[Route]) -> Answer:
    """
    The answer with the page.

    :param document: the OpenAPI document of these routes.
    """
    page = _Page(document, routes)
    return Answer(200, page.html().encode(), b"text/html; charset=utf-8", _HEADERS)


class _Page:
    """
    A page that is being made.
    """

    def __init__(self, document: Schema, routes: Sequence[Route]) -> None:
        self._document = document
        self._schemas = Schemas(document)
        groups = dict.fromkeys(map(group_of, routes))
        self._groups = [(group, [each for each in routes if group_of(each) == group]) for group in groups]

    def html(self) -> str:
        groups = "".join(self._group(name, routes) for name, routes in self._groups)
        body = f"{self._contents()}<main>{self._begin()}{groups}{self._refusals()}{_FOOTER}</main>"
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><title>dcounter: the HTTP API</title>'
            f'<link rel="icon" href="{_ICON}"><style>{STYLE}</style></head><body>{body}</body></html>\n'
        )

    def _contents(self) -> str:
        groups = [
            f'<li><a href="#{_id(name)}">{escape(name)}</a><ul>'
            + "".join(f'<li><a href="#{name_of(each)}">{_title(each)}</a></li>' for each in routes)
            + "</ul></li>"
            for name, routes in self._groups
        ]
        return (
            '<nav class="contents" aria-label="Contents"><a class="home" href="#top">dcounter</a><ul>'
            f'{"".join(groups)}<li><a href="#refusals">Refusals</a></li></ul></nav>'
        )

    def _begin(self) -> str:
        told = [
            f"<code>{escape(each['name'])}</code> is <code>{escape(each['schema']['default'])}</code>"
            for each in self._settings()
        ]
        defaults = (
            f"<p>Unless a request says otherwise, at this daemon {' and '.join(told)}.</p>" if told else ""
        )
        return (
            f'<div class="start" id="top"><div>{_INTRODUCTION}{defaults}</div>'
            f'<div class="examples">{self._first_steps()}</div></div>'
        )

    def _settings(self) -> Iterator[Schema]:
        """
        The parameters whose defaults an option of the daemon sets.
        """
        met = {}
        for operations in self._document["paths"].values():
            for operation in operations.values():
                met.update({each["name"]: each for each in operation["parameters"] if "name" in each})
        yield from (
            met[name] for name in ("ack", "consistency") if "default" in met.get(name, {}).get("schema", {})
        )

    def _first_steps(self) -> str:
        wanted = [("POST", "/items"), ("GET", "/items/{tenant}/count")]
        routes = [each for _, group in self._groups for each in group]
        found = [next(each for each in routes if (each.method, each.path) == one) for one in wanted]
        return "".join(example(each, examples_of(each)[0]) for each in found)

    def _group(self, name: str, routes: Iterable[Route]) -> str:
        sections = "".join(map(self._route, routes))
        return f'<h2 id="{_id(name)}">{escape(name)}</h2>{sections}'

    def _route(self, route: Route) -> str:
        operation = self._document["paths"][route.path][route.method.lower()]
        name = name_of(route)
        told = "".join(
            [
                f'<h3><a href="#{name}">{_title(route)}</a></h3><p>{_prose(operation["summary"])}</p>',
                _notes(route, operation),
                self._parameters(operation),
                self._body(operation),
                self._answers(operation),
                self._codes(operation),
            ]
        )
        examples = [
            example(way, each, _prose(_sentence(each.note)) if each.note else "")
            for way in ways(route)
            for each in examples_of(way)
        ]
        shown = f'<div class="examples">{"".join(examples)}</div>' if examples else ""
        return f'<section class="route" id="{name}"><div>{told}</div>{shown}</section>'

    def _parameters(self, operation: Schema) -> str:
        found = [each for each in operation["parameters"] if "name" in each]
        rows = [
            _row(each["name"], self._words(each["schema"]), _prose(each["description"])) for each in found
        ]
        return f'<h4>Parameters</h4><dl class="fields">{"".join(rows)}</dl>' if rows else ""

    def _body(self, operation: Schema) -> str:
        parts = []
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = content["schema"]
            fields = self._fields(schema)
            what = schema.get("description", "") if "$ref" not in schema else ""
            parts.append(
                f"<h4>Body <code>{escape(kind)}</code></h4>"
                f'<p class="quiet">{_prose(what) or _sentence(self._words(schema))}</p>{fields}'
            )
        return "".join(parts)

    def _answers(self, operation: Schema) -> str:
        parts = []
        for reference, statuses in answers(operation).items():
            schema = self._schemas.resolved({"$ref": reference})
            told = f"Answer {', '.join(statuses)}: {_prose(schema['description'])}"
            parts.append(f"<details><summary>{told}</summary>{self._fields(schema)}</details>")
        return "".join(parts)

    def _codes(self, operation: Schema) -> str:
        rows = []
        for status, response in operation["responses"].items():
            content = self._schemas.resolved(response).get("content", {}).get("application/problem+json", {})
            rows += [
                f'<li><span class="status">{status}</span><a href="#{code}"><code>{code}</code></a></li>'
                for code in content.get("examples", ())
            ]
        return (
            f"<details><summary>Refusals: {len(rows)} codes</summary>"
            f'<ul class="codes">{"".join(rows)}</ul></details>'
        )

    def _fields(self, schema: Schema, depth: int = 0) -> str:
        """
        The fields of an object, and of those that are in it.
        """
        rows = []
        for name, each in self._schemas.properties(schema).items():
            inner = self._fields(each, depth + 1) if depth < _DEEPEST else ""
            rows.append(_row(name, self._words(each), _prose(each.get("description", "")) + inner))
        return f'<dl class="fields">{"".join(rows)}</dl>' if rows else ""

    def _words(self, schema: Schema) -> str:
        return self._schemas.words(schema, _code)

    def _refusals(self) -> str:
        examples = self._document["components"]["examples"]
        shown: dict[str, Schema] = {}
        for each in examples.values():
            shown.setdefault(each["value"]["code"], each)
        ordered = sorted(shown.values(), key=lambda each: (each["value"]["status"], each["value"]["code"]))
        return _ABOUT_REFUSALS + "".join(map(_refusal, ordered))


def _refusal(shown: Schema) -> str:
    value = shown["value"]
    outcome = value.get("outcome")
    notes = [
        "retryable" if value["retryable"] else "not retryable",
        f"outcome <code>{outcome}</code>" if outcome else "",
    ]
    told = "".join(f"<span>{each}</span>" for each in notes if each)
    return (
        f'<section class="refusal" id="{value["code"]}"><h3><span class="status">{value["status"]}</span>'
        f"<code>{value['code']}</code></h3><p>{_prose(shown['description'])}</p>"
        f'<p class="notes">{told}</p><details><summary>Example</summary>'
        f'<pre class="answer" tabindex="0">{in_colours(value)}</pre></details></section>'
    )


def _title(route: Route) -> str:
    path = _VARIABLE.sub(r"<var>\1</var>", escape(route.path))
    return (
        f'<span class="method {route.method.lower()}">{route.method}</span> <span class="path">{path}</span>'
    )


def _notes(route: Route, operation: Schema) -> str:
    notes = []
    if route.scope == "admin":
        notes.append("for operators")
    if route.scope != "anyone":
        notes.append(f"scope of a token: <code>{route.scope}</code>")
    if operation.get("deprecated"):
        notes.append(f"deprecated: use <code>{escape(route.successor)}</code>")
    told = "".join(f"<span>{each}</span>" for each in notes)
    return f'<p class="notes">{told}</p>' if told else ""


def _row(name: str, kind: str, told: str) -> str:
    return f"<div><dt><code>{escape(name)}</code> <span>{kind}</span></dt><dd>{told}</dd></div>"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _id(name: str) -> str:
    return f"about-{name.lower()}"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))

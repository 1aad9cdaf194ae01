"""
How the page `/docs` shows examples: as commands for a shell, and as JSON in colours.
"""

import json
from collections.abc import Callable
from html import escape
from typing import Any, Final

import msgspec

from dcounter.http.examples import Example
from dcounter.http.route import Route

_DAEMON: Final = "http://127.0.0.1:8085"
_WIDTH: Final = 54
"""
Characters of a line in an example, before it is broken.
"""


def example(route: Route, shown: Example, note: str = "") -> str:
    """
    A request and its answer.

    :param note: what to say above them, in HTML.
    """
    answer = shown.answer if isinstance(shown.answer, str) else msgspec.to_builtins(shown.answer)
    return (
        f'<div class="example">{f"<p>{note}</p>" if note else ""}'
        f'<pre tabindex="0">{escape(curl(route, shown), quote=False)}</pre>'
        f'<pre class="answer" tabindex="0">'
        f"{escape(answer, quote=False) if isinstance(answer, str) else in_colours(answer)}</pre></div>"
    )


def curl(route: Route, shown: Example) -> str:
    """
    The command that sends a request.
    """
    url = _DAEMON + shown.target
    url = f"'{url}'" if set(url) & set("?&%") else url
    if route.content_type != "application/json":
        # With -d, curl would leave the line breaks out.
        lines = " \\\n              ".join(f"'{line}'" for line in shown.body.splitlines())
        return (
            f"printf '%s\\n' {lines} |\ncurl -X {route.method} -T - {url} \\\n"
            f"     -H 'Content-Type: {route.content_type}'"
        )
    method = "" if route.method == ("POST" if shown.body else "GET") else f" -X {route.method}"
    parts = [f"curl{method} {url}"]
    if shown.body:
        parts.append(f"-d '{_broken(shown.body)}'")
    if route.scope == "admin":
        parts.append('-H "Authorization: Bearer $TOKEN"')
    return " \\\n     ".join(parts)


def _broken(body: str) -> str:
    """
    JSON for a command. A long list has a line for each element.
    """
    content = msgspec.json.decode(body)
    if len(body) < _WIDTH - 10 or not isinstance(content, list):
        return body
    return f"[{(',' + chr(10) + ' ' * 9).join(msgspec.json.encode(each).decode() for each in content)}]"


def laid_out(
    value: Any, width: int, key: Callable[[str], str], scalar: Callable[[Any], str], indent: str = ""
) -> str:
    """
    JSON for people. What is short is on one line.

    :param width: characters of a line, before it is broken.
    :param key: writes the name of a field.
    :param scalar: writes what holds nothing else.
    """
    if not isinstance(value, dict | list | tuple):
        return scalar(value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    short = len(indent) + len(json.dumps(value)) <= width
    inner = "" if short else f"{indent}  "
    if isinstance(value, dict):
        parts = [f"{key(name)}: {laid_out(each, width, key, scalar, inner)}" for name, each in value.items()]
    else:
        parts = [laid_out(each, width, key, scalar, inner) for each in value]
    if short or not parts:
        return f"{opening}{', '.join(parts)}{closing}"
    lines = f",\n{inner}".join(parts)
    return f"{opening}\n{inner}{lines}\n{indent}{closing}"


def in_colours(value: Any) -> str:
    """
    JSON in colours, as HTML.
    """
    return laid_out(value, _WIDTH, lambda name: f'<span class="k">{_quoted(name)}</span>', _scalar)


def _scalar(value: Any) -> str:
    kind, text = ("s", _quoted(value)) if isinstance(value, str) else ("n", json.dumps(value))
    return f'<span class="{kind}">{text}</span>'


def _quoted(text: str) -> str:
    return escape(json.dumps(text, ensure_ascii=False), quote=False)

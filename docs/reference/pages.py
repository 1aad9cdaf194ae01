"""
The Sphinx extension of this site: pages get the parts that are made from the code, and links that work in it.

A page has `<!-- reference: NAME -->` where such a part belongs. What the parts say is Markdown, made by the
functions in `PARTS`.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from dcounter.daemon.option_table import DAEMON, NODE
from dcounter.daemon.reference import table
from docs.reference import cli, man, messages, routes
from docs.reference.links import ROOT, linked, themed

PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "command-options": cli.shared_options,
    "commands": cli.commands,
    "exit-statuses": cli.exit_statuses,
    "messages": messages.messages_of_phases,
    "options-of-a-daemon": partial(table, DAEMON),
    "options-of-a-node": partial(table, NODE),
    "refusals": routes.refusals,
    "routes": routes.routes,
}
"""
Parts of pages that are made from the code, by their names in pages.
"""

_PART: Final = re.compile(r"^<!-- reference: (?P<name>[\w-]+) -->$", re.MULTILINE)


def complete(text: str) -> str:
    """
    A page with its parts that are made from the code.

    :raises KeyError: there is no part of a name that the page has.
    """
    return _PART.sub(lambda match: PARTS[match["name"]](), text)


def setup(app: Sphinx) -> dict[str, Any]:
    """
    What Sphinx calls.
    """
    app.connect("env-get-outdated", _outdated)
    app.connect("source-read", _read)
    app.connect("include-read", _included)
    app.connect("doctree-resolved", _resolved)
    # After the theme, which makes the list of pages.
    app.connect("html-page-context", _level_headings, priority=900)
    app.connect("build-finished", _add_files)
    # Pygments does not know its configuration files.
    app.add_lexer("haproxy", TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """
    Pages that have parts are read again by each build: Sphinx does not see that the code has changed.
    """
    return [page for page in env.found_docs if _PART.search(env.doc2path(page).read_text("utf-8"))]


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = themed(linked(complete(source[0])))


def _included(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    folder = (Path(app.srcdir) / path).resolve().parent.relative_to(ROOT)
    source[0] = linked(source[0], str(folder))


def _resolved(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if app.builder.format == "man":
        man.add_usual_sections(doctree, page)
        man.suit_a_terminal(doctree)


def _level_headings(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """
    Tell screen readers the level of the headings in the list of pages, which Sphinx leaves out.
    """
    pages: str = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = pages.replace('role="heading"', 'role="heading" aria-level="2"')


def _add_files(app: Sphinx, error: Exception | None) -> None:
    if app.builder.format == "html":
        (Path(app.outdir) / "openapi.json").write_text(json.dumps(routes.openapi(), indent=1), "utf-8")

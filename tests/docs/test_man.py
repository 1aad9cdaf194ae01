"""
Pages are changed for terminals: tables become lists, and links of the site become text.
"""

import pytest
from docutils import nodes
from docutils.core import publish_doctree, publish_from_doctree
from myst_parser.parsers.docutils_ import Parser

from docs.reference.man import SYNOPSES, add_usual_sections, suit_a_terminal

_TABLE = """
| option | default | what it does |
|---|---|---|
| `--ack` | `node` | which nodes have the items on disk; see [Storing](#storing) |
| `--inline` | | everything in one process |

## Storing
"""


def _document(text: str) -> nodes.document:
    settings = {"myst_heading_anchors": 2, "report_level": 4, "myst_suppress_warnings": ["myst"]}
    return publish_doctree(text, parser=Parser(), settings_overrides=settings)


def test_a_table_becomes_a_list() -> None:
    page = _document(_TABLE)
    suit_a_terminal(page)
    assert not list(page.findall(nodes.table))
    first, second = page.findall(nodes.definition_list_item)
    assert first[0].astext() == "--ack"
    assert [each.astext() for each in first[1]] == [
        "which nodes have the items on disk; see Storing",
        "default: node",
    ]
    assert [each.astext() for each in second[1]] == ["everything in one process"]


def test_it_begins_as_man_pages_do() -> None:
    page = _document("# The command\n\nWhat it is for.\n\n## Recipes\n\nOne.\n")
    # Sphinx has the title in a section.
    whole = nodes.section(
        "", nodes.title("", page["title"]), *(each.deepcopy() for each in page.children[1:])
    )
    page = nodes.document(page.settings, page.reporter, "", whole)
    add_usual_sections(page, "cli")
    assert [each[0].astext() for each in whole[1:]] == ["Synopsis", "Description", "Recipes"]
    assert whole[1][1].astext() == "\n".join(SYNOPSES["cli"])
    assert whole[2][1].astext() == "What it is for."


def test_only_links_to_other_sites_stay() -> None:
    page = _document("[here](#storing) and [there](https://example.org/)\n\n## Storing\n")
    suit_a_terminal(page)
    assert [each["refuri"] for each in page.findall(nodes.reference)] == ["https://example.org/"]
    assert "here and there" in page.astext()


def test_what_comes_out_is_a_man_page() -> None:
    page = _document(_TABLE)
    suit_a_terminal(page)
    text = publish_from_doctree(page, writer="manpage").decode()
    assert ".TS" not in text
    assert "everything in one process" in text


@pytest.mark.parametrize("text", ["", "Only words.\n"])
def test_a_page_without_tables_stays_as_it_is(text: str) -> None:
    page = _document(text)
    before = page.pformat()
    suit_a_terminal(page)
    assert page.pformat() == before

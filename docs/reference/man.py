"""
Pages of the site as man pages: tables become lists, since a terminal has no room for wide columns.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from docutils import nodes

SYNOPSES: Final[Mapping[str, Sequence[str]]] = {
    "cli": ["dcounter COMMAND [OPTION]... [ARGUMENT]...", "dcounter [COMMAND] --help"],
    "configuration": ["dcounter serve --config FILE", "dcounter config check FILE"],
}
"""
Pages that are man pages as well, and how one uses what they describe.
"""


def add_usual_sections(page: nodes.document, name: str) -> None:
    """
    Give a page the sections with which readers of man pages begin.

    What the page says before its first section becomes the description.

    :param name: of the page.
    """
    whole = next(iter(page.findall(nodes.section)))
    title, *content = whole.children
    first = next(
        (number for number, each in enumerate(content) if isinstance(each, nodes.section)), len(content)
    )
    synopsis = nodes.literal_block("", "\n".join(SYNOPSES[name]))
    whole.clear()
    whole.extend(
        [
            title,
            _section("Synopsis", [synopsis]),
            _section("Description", content[:first]),
            *content[first:],
        ]
    )


def _section(title: str, content: Sequence[nodes.Node]) -> nodes.section:
    return nodes.section("", nodes.title("", title), *content, ids=[title.lower()])


def suit_a_terminal(page: nodes.document) -> None:
    """
    Change a page so that it can be read as a man page.

    Each row of a table becomes an item of a list: the first cell is the term, the column with the most text
    explains it, and the others follow with their names. A link within the documentation becomes its text: it
    leads nowhere on a terminal.
    """
    for table in list(page.findall(nodes.table)):
        table.replace_self(_as_list(table))
    for reference in list(page.findall(nodes.reference)):
        if "://" not in str(reference.get("refuri", "")):
            reference.replace_self(nodes.Text(reference.astext()))


def _as_list(table: nodes.table) -> nodes.definition_list:
    head, *rows = [list(row.findall(nodes.entry)) for row in table.findall(nodes.row)]
    names = [cell.astext() for cell in head]
    lengths = [sum(len(cell.astext()) for cell in column) for column in zip(*rows, strict=True)]
    longest = max(range(1, len(names)), key=lengths.__getitem__)
    return nodes.definition_list("", *(_item(names, row, longest) for row in rows))


def _item(names: list[str], row: list[nodes.entry], longest: int) -> nodes.definition_list_item:
    """
    A row as an item of a list.

    :param longest: the column that explains what the row is about.
    """
    others = [pair for number, pair in enumerate(zip(names, row, strict=True)) if number not in {0, longest}]
    paragraphs = [[*_inline(row[longest])], [*_told(others)]]
    definition = nodes.definition("", *(nodes.paragraph("", "", *each) for each in paragraphs if each))
    return nodes.definition_list_item("", nodes.term("", "", *_inline(row[0])), definition)


def _told(cells: Iterable[tuple[str, nodes.entry]]) -> Iterator[nodes.Node]:
    """
    Cells of a row, one after the other, each with the name of its column.
    """
    parts = [(name, cell) for name, cell in cells if cell.astext().strip()]
    for number, (name, cell) in enumerate(parts):
        if number:
            yield nodes.Text("; ")
        if name:
            yield nodes.Text(f"{name}: ")
        yield from _inline(cell)


def _inline(cell: nodes.entry) -> Iterator[nodes.Node]:
    for paragraph in cell.children:
        yield from (each.deepcopy() for each in paragraph.children)

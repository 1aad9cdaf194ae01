"""
All figures that a daemon shows at `GET /metrics`; makes the tables of docs/metrics.md.

`python -m dcounter.daemon.families` writes that page.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dcounter.coordinator import figures as of_coordinator
from dcounter.daemon import process_figures, tenant_figures
from dcounter.figures import Family
from dcounter.http import figures as of_http
from dcounter.node import figures as of_node

FAMILIES: Final[Mapping[str, Sequence[Family]]] = {
    "requests": of_http.FAMILIES,
    "coordinator": of_coordinator.FAMILIES,
    "nodes": of_node.FAMILIES,
    "processes": process_figures.FAMILIES,
    "tenants": tenant_figures.FAMILIES,
}
"""
By the part of the page that lists them.
"""

PAGE: Final = "docs/metrics.md"


def table(families: Sequence[Family]) -> str:
    """
    Families as a table of Markdown.
    """
    rows = ["| metric | type | labels | what it is |", "|---|---|---|---|"]
    for each in families:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return "\n".join([*rows, ""])


def page(before: str) -> str:
    """
    The page of the documentation, with its tables made anew.
    """
    for name, families in FAMILIES.items():
        begin, end = f"<!-- metrics: {name} -->\n", f"<!-- end of metrics: {name} -->"
        head, _, rest = before.partition(begin)
        _, _, tail = rest.partition(end)
        before = f"{head}{begin}\n{table(families)}\n{end}{tail}"
    return before


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else ".") / PAGE
    path.write_text(page(path.read_text("utf-8")), "utf-8")

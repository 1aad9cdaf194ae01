"""
The commands of `dcounter`. It names their modules, so that to list them imports none.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """
    Where a command is, and what it is for.

    :ivar module: in the package `dcounter.cli`. The command has its own name there.
    :ivar help: the first line of its own help.
    """

    module: str
    help: str


SECTIONS: Mapping[str, Mapping[str, Row]] = {
    "Run": {
        "serve": Row("serving", "Run the daemon in the foreground."),
        "status": Row("statuses", "Show whether counts are exact, writes are taken, and how the nodes are."),
    },
    "Store": {
        "put": Row("put", "Store the items of a file."),
    },
    "Ask": {
        "count": Row("counting", "Count the items of tenants."),
        "get": Row("counting", "Show which tenant owns an ID."),
    },
}

COMMANDS: Mapping[str, Row] = {
    name: row for section in SECTIONS.values() for name, row in sorted(section.items())
}

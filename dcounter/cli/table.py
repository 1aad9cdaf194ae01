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
        "audit": Row("auditing", "Count everything anew, and compare all nodes."),
        "config": Row("configuring", "Check the configuration of a daemon."),
        "token": Row("tokens", "Make, list and revoke the tokens of callers."),
    },
    "Store": {
        "put": Row("put", "Store the items of a file."),
        "delete": Row("removing", "Delete items."),
        "erase": Row("removing", "Delete a tenant with everything that it owns."),
    },
    "Ask": {
        "count": Row("counting", "Count the items of tenants."),
        "top": Row("listing", "Show the tenants that own most."),
        "get": Row("counting", "Show which tenant owns an ID."),
        "tenants": Row("listing", "List the tenants that own items, and how many."),
        "items": Row("listing", "List the IDs that a tenant owns, in ascending order."),
        "events": Row("watching", "Show what changes, as it happens, until Ctrl-C."),
        "export": Row("copying", "Write everything that is stored, as lines of JSON."),
    },
    "Keep": {
        "backup": Row("backups", "Write everything that is stored to a file."),
        "restore": Row("backups", "Store the items of a backup in an empty cluster."),
        "check": Row("checking", "Find what is wrong in a data directory that no daemon uses."),
    },
    "Try": {
        "demo": Row("demonstrating", "Store items of invented tenants that grow, shrink and move."),
        "bench": Row("benchmarking", "Measure how fast the daemon stores and counts, from here."),
        "completion": Row("completing", "Print a script that completes commands and options in a shell."),
    },
}

COMMANDS: Mapping[str, Row] = {name: row for rows in SECTIONS.values() for name, row in rows.items()}

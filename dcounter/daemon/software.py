"""
Which software this is: its version, the commit that it was made from, what it speaks and reads.
"""

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import dcounter
from dcounter.journal.framing import FORMAT
from dcounter.protocol.abilities import LOWEST_PROTOCOL, PROTOCOL
from dcounter.store import Software

_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")


def this_software() -> Software:
    """
    What runs in this process.
    """
    checkout = Path(dcounter.__file__).parents[1]
    return Software(
        version=dcounter.__version__,
        commit=commit_of_install("dcounter") or commit_of_checkout(checkout),
        protocol=PROTOCOL,
        lowest_protocol=LOWEST_PROTOCOL,
        journal_format=FORMAT,
    )


def commit_of_install(name: str) -> str | None:
    """
    The commit that a package was installed from, if `pip` has noted it; else `None`.
    """
    try:
        noted = json.loads(distribution(name).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    found = noted.get("vcs_info", {}).get("commit_id", "")
    return found if _COMMIT.fullmatch(found) else None


def commit_of_checkout(root: Path) -> str | None:
    """
    The commit that a directory was checked out from by git; `None` if it was not.
    """
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text("ascii").strip()
        ref = head.removeprefix("ref: ")
        if ref == head:
            found = head
        elif (git / ref).exists():
            found = (git / ref).read_text("ascii").strip()
        else:
            packed = (git / "packed-refs").read_text("utf-8")
            match = re.search(rf"^(\w+) {re.escape(ref)}$", packed, re.MULTILINE)
            found = match[1] if match else ""
    except (OSError, ValueError):
        return None
    return found if _COMMIT.fullmatch(found) else None

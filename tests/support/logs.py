"""
Looks for errors in what a daemon has logged.
"""

import re
from collections.abc import Iterable

_BAD = re.compile(
    r"Traceback|Unhandled"
    # A line of an entry with such a level, as it is written to a file or a pipe.
    r"|^\S+ (?:error|critical) "
    # The same of release 0.1.0.
    r"|#(?:error|critical)\]"
)


def bad_lines(log: str, expected: Iterable[str] = ()) -> list[str]:
    """
    The lines that tell of an error.

    :param expected: parts of lines that do not matter.
    """
    bad = [line for line in log.splitlines() if _BAD.search(line)]
    return [line for line in bad if not any(each in line for each in expected)]

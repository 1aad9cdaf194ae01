"""
The exit statuses of `dcounter`.
"""

from enum import IntEnum


class Exit(IntEnum):
    """
    How a command ended.

    Ctrl-C and a closed pipe end a command by their signals, which shells show as 130 and 141.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    NO = 3
    REFUSED = 4
    UNAVAILABLE = 5
    UNKNOWN = 6

    @property
    def meaning(self) -> str:
        """
        What a caller learns from it.
        """
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "The command did what it was asked to do.",
    Exit.FAILED: "Something on this machine went wrong, such as a file that cannot be read.",
    Exit.USAGE: "The command line is wrong. Nothing was sent.",
    Exit.NO: "The answer is no: no tenant owns the ID, the count is not exact, the audit found a difference,"
    " some lines were refused, items are not stored now, the backup or the data directory is damaged, the"
    " configuration is wrong.",
    Exit.REFUSED: "The daemon refused the request. Nothing was changed, and repeating it will not help.",
    Exit.UNAVAILABLE: "The daemon cannot be reached, or cannot do it now. Nothing was changed: repeat it.",
    Exit.UNKNOWN: "The request may have been carried out, wholly or partly. The message says what is known.",
}

"""
Gives each item of a file a stamp of its own, so that the file can be sent again without harm.

Of two lines with the same ID the later one must win, however the lines are cut into requests, in which order
these arrive, and how often. So each line has a stamp one nanosecond after that of the line before.
"""

from typing import Any, Final

import msgspec

from dcounter.stamps import show_stamp

_SECOND: Final = 1_000_000_000
_FIELD: Final = "lastUpdateDt"
_OTHERS: Final = frozenset({"ID", "id", "tenant", "deleted"})
_ABSENT: Final = (None, "0001-01-01T00:00:00Z")
"""
What a daemon takes for no stamp.
"""


class NoJson(ValueError):
    """
    A line is not JSON; the message completes the sentence "the line ...".
    """


class Stamps:
    """
    Stamps items.

    :param first: the stamp (ns since 1970) before that of line 1.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._second = -1
        self._shown = ""

    def stamped(self, number: int, text: bytes) -> bytes:
        """
        The JSON of an item with a stamp: its own if it has one. What is no item is left as it is.

        :param number: of its line.
        :raises NoJson: it is not even JSON.
        """
        try:
            item: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoJson(f"is not JSON: {error}") from error
        except RecursionError as error:
            raise NoJson("is nested too deeply") from error
        if not isinstance(item, dict) or not item:
            return text
        if not item.keys() <= _OTHERS:
            own = [name for name in item if name.lower() == _FIELD.lower()]
            if any(item[name] not in _ABSENT for name in own):
                return text
            if own:
                for name in own:
                    del item[name]
                return msgspec.json.encode({**item, _FIELD: self._show(number)})
        return b'%s,"%s":"%s"}' % (text[:-1], _FIELD.encode(), self._show(number).encode())

    def _show(self, number: int) -> str:
        second, nanoseconds = divmod(self._first + number, _SECOND)
        if second != self._second:
            # The lines of a file mostly share it.
            self._second, self._shown = second, show_stamp(second * _SECOND)[:-10]
        return f"{self._shown}{nanoseconds:09}Z"

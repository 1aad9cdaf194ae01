"""
What an option is: its name, which values it takes, and how a text becomes such a value.

The options themselves are in `dcounter.daemon.option_table`. The command line, the environment and the
configuration file read them by the same kinds, so that all three accept the same.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Reload = Literal["restart", "value", "file"]
"""
What SIGHUP does about an option. Nothing: a new value needs a restart. Use the new value. Read the file that
it names again: a new name needs a restart.
"""

VARIABLES: Final = "DCOUNTER_"
"""
How the environment variables of options begin.
"""

_YES: Final = frozenset({"true", "yes", "on", "1"})
_NO: Final = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class Kind:
    """
    The values that an option takes.

    :ivar what: such a value, in words that complete "must be ...".
    :ivar read: makes a value of a text; raises `ValueError`.
    :ivar in_file: the type that a value has in the configuration file.
    :ivar unit: of a number, for people.
    :ivar is_path: in a configuration file, a relative path starts from the directory of that file.
    """

    what: str
    read: Callable[[str], Any]
    in_file: type = str
    unit: str = ""
    is_path: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One option.

    :ivar name: as on the command line, without `--`, and in the configuration file.
    :ivar help: one sentence that says what it is for.
    :ivar default: the value if none is given; `None`: none.
    :ivar details: what else to know, in Markdown.
    :ivar shown_default: the default in words, if it is not a value.
    :ivar example: a value as the configuration file has it, if there is no default.
    :ivar group: the heading under which it is listed.
    :ivar many: whether it may be given several times; its value is then a list.
    :ivar once: it is for one start, or for a process that a daemon starts: only the command line takes it.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    details: str = ""
    shown_default: str = ""
    example: str = ""
    group: str = ""
    reload: Reload = "restart"
    many: bool = False
    once: bool = False

    @property
    def is_flag(self) -> bool:
        """
        Whether the command line takes no value for it.
        """
        return self.kind.in_file is bool

    @property
    def variable(self) -> str:
        """
        Its environment variable.
        """
        return variable_of(self.name)

    def read(self, text: str, where: str) -> Any:
        """
        The value that a text stands for.

        :param where: what an error calls the place of the text.
        :raises ValueError: it is no such value; the message says so.
        """
        try:
            return self.kind.read(text)
        except ValueError:
            raise ValueError(f"{where} must be {self.kind.what}, not {text!r}") from None


def variable_of(name: str) -> str:
    """
    The environment variable of an option.
    """
    return VARIABLES + name.upper().replace("-", "_")


def shown(value: Any) -> str:
    """
    A value as the command line takes it.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.10g}"
        case list() | tuple():
            return ", ".join(map(shown, value))
        case _:
            return str(value)


# Kinds


def _require(fits: bool) -> None:
    if not fits:
        raise ValueError


def whole(least: int, most: int | None = None, unit: str = "") -> Kind:
    """
    An integer.
    """

    def read(text: str) -> int:
        _require(text.isascii() and text.isdecimal() and least <= int(text) <= (most or math.inf))
        return int(text)

    range_ = f">= {least}" if most is None else f"from {least} to {most}"
    return Kind(f"an integer {range_}", read, int, unit)


def seconds(least: float, most: float, *, or_never: bool = False) -> Kind:
    """
    A time.

    :param or_never: 0 is allowed as well.
    """

    def read(text: str) -> float:
        number = float(text)
        _require(least <= number <= most or (or_never and number == 0))
        return number

    never = "0 or " if or_never else ""
    return Kind(f"{never}{least:g} to {most:.10g} seconds", read, float, "seconds")


def share() -> Kind:
    """
    A part of a whole.
    """

    def read(text: str) -> float:
        number = float(text)
        _require(0 <= number < 1)
        return number

    return Kind("at least 0 and below 1", read, float)


def one_of(words: Sequence[str]) -> Kind:
    """
    One of some words.
    """

    def read(text: str) -> str:
        _require(text in words)
        return text

    return Kind(f"one of {', '.join(words)}", read)


def matching(pattern: str, what: str) -> Kind:
    """
    A text of a certain form.
    """

    def read(text: str) -> str:
        _require(re.fullmatch(pattern, text) is not None)
        return text

    return Kind(what, read)


def _read_flag(text: str) -> bool:
    _require(text.lower() in _YES | _NO)
    return text.lower() in _YES


def _read_filled(text: str) -> str:
    _require(text != "" and "\0" not in text)
    return text


def _read_address(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"tcp:([^:]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise ValueError
    return found[1], int(found[2])


def _read_listen_address(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"tcp:([0-9]{1,5})(?::interface=([0-9.]+))?", text)
    if found is None or not 0 < int(found[1]) < 65_536:
        raise ValueError
    return found[2] or "", int(found[1])


def _read_peer(text: str) -> tuple[int, tuple[str, int]]:
    found = re.fullmatch(r"([0-9]{1,5})=(.*)", text)
    if found is None:
        raise ValueError
    return int(found[1]), _read_address(found[2])


FLAG: Final = Kind("true or false", _read_flag, bool)
TEXT: Final = Kind("a text", str)
PATH: Final = Kind("a path", _read_filled, is_path=True)
ADDRESS: Final = Kind("an address like tcp:HOST:PORT", _read_address)
LISTEN_ADDRESS: Final = Kind("like tcp:8090 or tcp:8090:interface=10.0.0.1", _read_listen_address)
PEER: Final = Kind("like 1=tcp:HOST:PORT", _read_peer)
HOST_NAME: Final = matching(
    r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", "a host name without scheme and port, like counts.example"
)
WEB_ORIGIN: Final = matching(
    r"https?://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
    "like https://app.example or http://HOST:PORT",
)

"""
How a log event becomes a line: for a terminal, for a file, for the journal of systemd, or as JSON.

What callers send may be part of an event. It cannot end a line, begin another one, or steer a terminal:
characters that do so are escaped.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from twisted.logger import LogEvent, LogLevel, formatEvent

LEVELS: Final = ("debug", "info", "warn", "error")
"""
What `--log-level` may be, from the most lines to the fewest.
"""

FORMATS: Final = ("text", "json")
"""
What `--log-format` may be.
"""

RELAYED: Final = "log_relayed"
"""
The field of an event with the record that another process has logged.
"""

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""
Control characters, ends of lines of Unicode, marks that reverse the direction of writing, half characters.
"""

_COLOURS: Final = {"debug": "2", "info": "2", "warn": "33", "error": "31", "critical": "1;31"}
"""
Numbers of a terminal's colours.
"""

_PRIORITIES: Final = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""
Levels as syslog numbers them, which the journal of systemd understands at the beginning of a line.
"""

_LARGE: Final = 2**63

_STEP: Final = "\t"
"""
How the lines of a traceback begin, so that none of them looks like an entry.
"""


@dataclass(frozen=True, slots=True)
class Record:
    """
    What a log entry says.

    :ivar time: when it happened, seconds since 1970.
    :ivar level: `debug`, `info`, `warn`, `error` or `critical`.
    :ivar logger: the module that logged it.
    :ivar message: the sentence.
    :ivar template: the sentence with names in the place of values, the same at every occasion.
    :ivar fields: the values.
    :ivar traceback: of an exception; empty if there is none.
    :ivar node: whose process logged it; `None`: this one.
    """

    time: float
    level: str
    logger: str
    message: str
    template: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    traceback: str = ""
    node: int | None = None

    @property
    def sentence(self) -> str:
        """
        The message, with the node if it does not say that by itself.
        """
        name = f"node {self.node}"
        return (
            self.message if self.node is None or self.message.startswith(name) else f"{name}: {self.message}"
        )


Layout = Callable[[Record], str]
"""
Makes the line, or the lines, of a record, with the end of the line.
"""


def record_of(event: LogEvent) -> Record | None:
    """
    What an event says; `None` if it says nothing.
    """
    if RELAYED in event:
        return event[RELAYED]  # type: ignore[no-any-return]
    message = formatEvent(event)
    failure = event.get("log_failure")
    if not message and failure is None:
        return None
    return Record(
        time=event["log_time"],
        level=event.get("log_level", LogLevel.info).name,
        logger=str(event.get("log_namespace", "")),
        message=message,
        template=str(event.get("log_format") or ""),
        fields=_fields(event),
        traceback="" if failure is None else failure.getTraceback(),
        node=event.get("log_node"),
    )


def _fields(event: LogEvent) -> dict[str, object]:
    # What Twisted's older log adds to an event is no value of its sentence.
    if "log_text" in event:
        return {}
    return {name: _plain(value) for name, value in event.items() if not name.startswith("log_")}


def _plain(value: object) -> object:
    """
    A value as JSON has it.
    """
    if isinstance(value, int):
        return value if abs(value) < _LARGE else str(value)
    return value if isinstance(value, str | float | None) else str(value)


def printable(text: str) -> str:
    """
    A text without characters that could end a line or steer a terminal.
    """
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def _lines(first: str, record: Record) -> str:
    """
    An entry of the log, with the traceback after it.
    """
    lines = [first, *(_STEP + printable(line) for line in record.traceback.splitlines())]
    return "\n".join([*lines, ""])


def terminal(record: Record, *, colour: bool) -> str:
    """
    The line for a person who watches.
    """
    when = f"{datetime.fromtimestamp(record.time).astimezone():%H:%M:%S}"
    level = f"{record.level:<5}"
    if colour:
        when, level = f"\x1b[2m{when}\x1b[0m", f"\x1b[{_COLOURS[record.level]}m{level}\x1b[0m"
    return _lines(f"{when} {level} {printable(record.sentence)}", record)


def file(record: Record) -> str:
    """
    The line for a file or a pipe.
    """
    return _lines(f"{_moment(record.time)} {record.level:<5} {printable(record.sentence)}", record)


def journal(record: Record) -> str:
    """
    The line for the journal of systemd, which adds the time by itself.
    """
    priority = f"<{_PRIORITIES[record.level]}>"
    lines = _lines(f"{record.level:<5} {printable(record.sentence)}", record)
    return "".join(f"{priority}{line}\n" for line in lines.splitlines())


def json(record: Record) -> str:
    """
    The line for programs: an object of JSON.
    """
    values: dict[str, Any] = {
        "time": _moment(record.time),
        "level": record.level,
        "logger": record.logger,
        "node": record.node,
        "message": record.message,
        "template": record.template,
        "fields": record.fields,
        "traceback": record.traceback,
    }
    kept = {name: value for name, value in values.items() if name == "message" or value not in (None, "", {})}
    try:
        text = msgspec.json.encode(kept).decode()
    except UnicodeEncodeError:
        # Half characters, which UTF-8 cannot write.
        text = msgspec.json.encode(_mended(kept)).decode()
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_mended(name): _mended(each) for name, each in value.items()}
        case _:
            return value


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


class _Relayed(msgspec.Struct):
    time: str
    level: str
    message: str
    logger: str = ""
    template: str = ""
    fields: dict[str, Any] = {}
    traceback: str = ""


_relayed = msgspec.json.Decoder(_Relayed)


def from_json(line: bytes, node: int) -> Record | None:
    """
    The record that the process of a node has logged as JSON; `None` if the line is something else.
    """
    try:
        found = _relayed.decode(line)
        when = datetime.fromisoformat(found.time).timestamp()
    except (msgspec.MsgspecError, ValueError):
        return None
    if found.level not in _PRIORITIES:
        return None
    return Record(
        when, found.level, found.logger, found.message, found.template, found.fields, found.traceback, node
    )


def layout_for(name: str, descriptor: int | None, environ: Mapping[str, str]) -> Layout:
    """
    The layout that suits an output.

    :param name: what `--log-format` says.
    :param descriptor: of the output; `None`: a file of our own.
    """
    if name == "json":
        return json
    if descriptor is None:
        return file
    colour = colour_of(descriptor, environ)
    if colour is not None:
        return lambda record: terminal(record, colour=colour)
    return journal if _is_journal(descriptor, environ) else file


def colour_of(descriptor: int, environ: Mapping[str, str]) -> bool | None:
    """
    Whether an output may have colours; `None` if it is no terminal.
    """
    if not os.isatty(descriptor):
        return None
    return not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def _is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """
    Whether an output is the journal of systemd, which names itself in the environment.
    """
    found = os.fstat(descriptor)
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"

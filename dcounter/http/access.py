"""
The access log: an entry for each request, if that is wanted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from dcounter.http.problems import Answer
from dcounter.http.tracing import in_words, names

TEMPLATE: Final = "{caller} {method} {target}: {status}, {bytes} bytes, {ms} ms{refusal}{named}"
"""
An entry, as the log of everything else has them.
"""

_SHOWN: Final = 500
"""
How many bytes of a target an entry shows.
"""

Write = Callable[[str, str, Mapping[str, object]], None]
"""
Writes an entry: its template, its text, its values.
"""


class Asked(Protocol):
    """
    The head of a request.
    """

    @property
    def method(self) -> bytes: ...

    @property
    def target(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[bytes, Sequence[bytes]]: ...


class AccessLog:
    """
    Makes the entries.

    It does not use a logger of Twisted, which takes three times as long for the same entry.

    :param write: writes an entry into the log.
    :ivar on: whether entries are wanted.
    """

    __slots__ = ("_write", "on")

    def __init__(self, write: Write, *, on: bool = False) -> None:
        self._write = write
        self.on = on

    def use(self, on: bool) -> None:
        """
        Set whether entries are wanted.
        """
        self.on = on

    def answered(self, peer: object, asked: Asked | None, answer: Answer, took_s: float) -> None:
        """
        Log a request whose answer is written.

        :param asked: the request; `None` if it could not be read.
        :param took_s: the time (s) that it took.
        """
        length = None if answer.stream is not None else len(answer.body)
        self._log(peer, asked, str(answer.status), length, took_s, answer.refusal)

    def abandoned(self, peer: object, asked: Asked, took_s: float) -> None:
        """
        Log a request whose caller hung up before its answer was written.
        """
        self._log(peer, asked, "the caller hung up", None, took_s, "")

    def _log(
        self,
        peer: object,
        asked: Asked | None,
        status: str,
        length: int | None,
        took_s: float,
        refusal: str,
    ) -> None:
        caller = getattr(peer, "host", "a Unix socket")
        method, target, named = "-", "-", ""
        if asked is not None:
            method, target = _text(asked.method), _text(asked.target)
            named = in_words(names(asked.headers))
        ms = round(1000 * took_s, 1)
        size = "" if length is None else f" {length} bytes,"
        why = f", {refusal}" if refusal else ""
        self._write(
            TEMPLATE,
            f"{caller} {method} {target}: {status},{size} {ms} ms{why}{named}",
            {
                "caller": caller,
                "method": method,
                "target": target,
                "status": status,
                "bytes": length,
                "ms": ms,
                "refusal": refusal,
                "named": named,
            },
        )


def _text(sent: bytes) -> str:
    shown = sent[:_SHOWN].decode("latin-1")
    return shown if len(sent) <= _SHOWN else f"{shown}..."


def write_nothing(template: str, text: str, values: Mapping[str, object]) -> None:
    """
    What writes where there is no log.
    """

"""
What the HTTP client makes of answers, refusals and silence. `dcounter.client` exports all of it.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from dcounter.errors import DcounterError

_SUCCESSES: Final = frozenset({200, 207})
_SHOWN_BYTES: Final = 100
"""
How much of an unexpected body an error repeats.
"""

_T = TypeVar("_T")


class Refused(DcounterError):
    """
    The daemon refused a request.

    :ivar status: the HTTP status.
    :ivar code: the kind of refusal, for programs.
    :ivar outcome: what became of a request that changes something; `None` for other requests.
    :ivar retryable: whether the same request may succeed if it is sent again later; `False` if the daemon
        does not tell, as those of release 0.1.0 do not.
    :ivar problem: the whole problem document.
    :ivar retry_after: time (s) after which to send the request again; `None` if the daemon does not tell.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], *, retry_after: int | None = None) -> None:
        super().__init__(f"{problem.get('title')}: {problem.get('detail')}")
        self.status = status
        self.code = str(problem.get("code"))
        self.outcome = problem.get("outcome")
        self.retryable = problem.get("retryable") is True
        self.problem = problem
        self.retry_after = retry_after


class Unreachable(DcounterError):
    """
    The daemon did not answer.

    :ivar sent: whether the daemon may have received the request; its outcome is unknown then.
    """

    def __init__(self, error: BaseException, *, sent: bool) -> None:
        super().__init__(f"no answer: {error!r}")
        self.sent = sent


class Unexpected(DcounterError):
    """
    The answer is none that a daemon gives: a proxy or another program answered. Its outcome is unknown.

    :ivar status: the HTTP status.
    :ivar body: the whole body (bytes).
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}, and not as dcounter answers: {body[:_SHOWN_BYTES]!r}")
        self.status = status
        self.body = body


class Answer(msgspec.Struct, frozen=True):
    """
    Any answer.

    Each method raises `Unexpected` if it is none that a daemon gives.

    :ivar retry_after: time (s) after which to send the request again; `None` if the answer does not tell.
    :ivar date: the daemon's clock, as in the header `Date`; an empty text if the answer does not tell.
    """

    status: int
    body: bytes
    retry_after: int | None = None
    date: str = ""

    @property
    def content(self) -> Any:
        """
        The JSON of the body.
        """
        return self._decoded(Any)

    @property
    def code(self) -> str | None:
        """
        The kind of refusal, for programs; `None` if the answer is a success.
        """
        return None if self.status in _SUCCESSES else self.refused().code

    def ok(self) -> Any:
        """
        The content of a success.

        :raises Refused: the answer is not a success.
        """
        return self.read(Any)

    def read(self, kind: type[_T]) -> _T:
        """
        The content of a success, decoded as its type. Fields that newer daemons add are ignored.

        :raises Refused: the answer is not a success.
        """
        if self.status not in _SUCCESSES:
            raise self.refused()
        return self._decoded(kind)

    def refused(self) -> Refused:
        """
        The refusal that it is.
        """
        problem = self._decoded(dict[str, Any])
        if not isinstance(problem.get("code"), str) or not isinstance(problem.get("title"), str):
            raise Unexpected(self.status, self.body)
        return Refused(self.status, problem, retry_after=self.retry_after)

    def _decoded(self, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unexpected(self.status, self.body) from error

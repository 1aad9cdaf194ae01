"""
The refusals of loads: they say how far the load came.
"""

from collections.abc import Mapping, Sequence

import msgspec

from dcounter.errors import NOTHING_STORED, Outcome, Refusal
from dcounter.http.answer_bodies import LineError
from dcounter.http.problems import RETRY_SOON_S, HttpRefusal


class SoFar(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What is certain of a load that does not come to its end.

    :ivar items_stored: how many items are stored for certain.
    :ivar next_line: the number of the first line, from 1, that is not stored for certain; all before it are,
        but for those that were skipped.
    :ivar position: a token for what is stored; `None` if nothing is.
    :ivar invalid: how many lines were skipped.
    :ivar errors: what is wrong with the first lines that are invalid.
    """

    items_stored: int
    next_line: int
    position: str | None = None
    invalid: int = 0
    errors: Sequence[LineError] = ()


class _OfLoad:
    """
    What refusals of loads have in common.
    """

    so_far: SoFar

    def details(self) -> Mapping[str, object]:
        """
        Further fields of the answer.
        """
        found: dict[str, object] = msgspec.to_builtins(self.so_far)
        return found


class InvalidLine(_OfLoad, HttpRefusal):
    """
    A line of a load is invalid: all items before it are stored, and none after it.
    """

    code = "invalid_line"
    status = 422
    title = "Invalid line"

    def __init__(self, so_far: SoFar) -> None:
        error = so_far.errors[0]
        where = f"line {error.line}" + (f", {error.field}" if error.field else "")
        super().__init__(
            f"{where}: {error.message}; the {so_far.items_stored} items of the lines before it are stored,"
            " nothing after it"
        )
        self.so_far = so_far
        self.outcome = "partial" if so_far.items_stored else "not_applied"


class LoadStopped(_OfLoad, HttpRefusal):
    """
    A part of a load could not be stored, after other parts were. The rest was not sent on.

    :param cause: why. Sending the load again helps only where it helps against that.
    :param outcome: `partial` if it is known what is stored, else `unknown`.
    """

    code = "load_stopped"
    status = 503
    title = "Load stopped"
    retryable = True

    def __init__(self, cause: Refusal, so_far: SoFar, outcome: Outcome) -> None:
        self.retryable = cause.retryable
        super().__init__(
            f"the load stopped at line {so_far.next_line}, with {so_far.items_stored} items stored:"
            f" {str(cause).removesuffix(NOTHING_STORED)} ({cause.code})"
            + ("; send it again from that line" if self.retryable else "")
        )
        self.so_far = so_far
        self.outcome = outcome
        if self.retryable:
            self.retry_after = cause.retry_after or RETRY_SOON_S


class LoadBroken(_OfLoad, HttpRefusal):
    """
    The body of a load could not be read to its end.

    :param cause: why.
    """

    code = "load_broken"
    status = 400
    title = "Load broken off"

    outcome = "partial"

    def __init__(self, cause: Refusal, so_far: SoFar) -> None:
        super().__init__(
            f"the body could not be read to its end: {cause}; {so_far.items_stored} items are stored, all"
            f" before line {so_far.next_line}"
        )
        self.so_far = so_far


class ExportCutShort(_OfLoad, HttpRefusal):
    """
    A load is an export of which lines are missing.

    :param fault: what shows it.
    """

    code = "export_cut_short"
    status = 422
    title = "Export cut short"

    def __init__(self, fault: str, so_far: SoFar) -> None:
        super().__init__(
            f"the load is not a whole export: {fault}; the {so_far.items_stored} items that came are stored"
        )
        self.so_far = so_far
        self.outcome = "partial" if so_far.items_stored else "not_applied"

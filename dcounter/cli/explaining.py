"""
Says in words what the client's errors mean: what was wrong, where, whether anything was stored, what to do.
"""

from typing import Any, Final

from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.output import shown
from dcounter.cli.persisting import GaveUp
from dcounter.client_answers import Refused, Unexpected, Unreachable
from dcounter.errors import DcounterError

_OUTCOMES: Final = {
    "not_applied": "Nothing was changed.",
    "unknown": "It is not known whether it was carried out.",
    "stored": "The items are stored, but not on as many nodes as requested.",
    "partial": "Only a part was carried out.",
}

_REASONS: Final = {
    "ConnectionRefusedError": "nothing listens there",
    "DNSLookupError": "the name of the host is unknown",
    "NoRouteError": "there is no way to that host",
    "TimeoutError": "no answer in time",
    "TCPTimedOutError": "no answer in time",
    "ConnectionDone": "the connection was closed",
    "ConnectionLost": "the connection was lost",
}

_UNTRUSTED: Final = "certificate verify failed"
"""
What OpenSSL says of a certificate whose authority it does not know, or that is of another host.
"""

_ADVICE: Final = {
    "unauthenticated": "Show a token: --token-file FILE, or DCOUNTER_TOKEN.",
    "incomplete": "Ask again, or take the best number available with --consistency available.",
    "unknown_host": "Call the daemon by a local name such as localhost, or start it with --host NAME.",
}

_OPERATOR: Final = (
    "Only operators may do that. On the daemon's machine show its operator token:"
    " --token-file DATA-DIR/operator-token."
)


def explained(error: DcounterError, url: str) -> Failed:
    """
    An error of the client, as a failure of a command.

    :param url: of the daemon that was called.
    """
    match error:
        case Refused():
            return _refused(error)
        case Unreachable():
            return _unreachable(error, url)
        case Unexpected(status=status):
            return Failed(
                f"{url} answered with status {status}, but not as dcounter answers",
                "Another program listens there, or a proxy answered in place of the daemon.",
                "It is not known whether the request was carried out.",
                exit=Exit.UNKNOWN,
                code="unexpected",
                details={"status": status},
            )
        case GaveUp():
            last = explained(error.error, url)
            return Failed(
                f"gave up after {error.patience_s:g} s without progress: {last.message}",
                *last.notes,
                exit=last.exit,
                code=last.code,
                details=last.details,
            )
        case _:
            return Failed(str(error))


def _refused(error: Refused) -> Failed:
    notes = []
    # The text of a refusal to store says so itself.
    if error.outcome in _OUTCOMES and "nothing of the request was stored" not in str(error):
        notes.append(_OUTCOMES[error.outcome])
    if error.code in _ADVICE:
        notes.append(_ADVICE[error.code])
    elif error.code == "forbidden" and "operator" in str(error):
        notes.append(_OPERATOR)
    elif error.retryable:
        notes.append("The same request may succeed later.")
    return Failed(
        shown(str(error)),
        *notes,
        exit=exit_of(error.outcome, retryable=error.retryable),
        code=error.code,
        details={name: value for name, value in error.problem.items() if name not in {"code", "message"}},
    )


def exit_of(outcome: Any, *, retryable: bool) -> Exit:
    """
    The exit status of a command whose request was refused.
    """
    if outcome in {"unknown", "partial", "stored"}:
        return Exit.UNKNOWN
    return Exit.UNAVAILABLE if retryable else Exit.REFUSED


def _unreachable(error: Unreachable, url: str) -> Failed:
    reason = _reason(error)
    if _UNTRUSTED in reason:
        return Failed(
            f"cannot trust {url}: {_UNTRUSTED}",
            "Nothing was sent.",
            "If the authority is your own, name its certificate (PEM) in SSL_CERT_FILE.",
            exit=Exit.UNAVAILABLE,
            code="untrusted",
        )
    if error.sent:
        return Failed(
            f"no answer from {url}: {reason}",
            "It is not known whether the request was carried out.",
            exit=Exit.UNKNOWN,
            code="no_answer",
        )
    return Failed(
        f"cannot reach {url}: {reason}",
        "Nothing was sent.",
        "Start a daemon with 'dcounter serve', or name another one with --url or DCOUNTER_URL.",
        exit=Exit.UNAVAILABLE,
        code="unreachable",
    )


def _reason(error: Unreachable) -> str:
    """
    Why there is no answer, in as few words as possible.
    """
    cause: Any = error.__cause__
    # Twisted's client has a list of what went wrong.
    while getattr(cause, "reasons", None):
        cause = cause.reasons[0].value
    return _REASONS.get(type(cause).__name__) or str(cause or error)

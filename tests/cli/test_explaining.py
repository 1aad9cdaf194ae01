"""
Errors of the client are told in words, with what to do.
"""

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from dcounter.cli.auditing import picture
from dcounter.cli.exits import Exit
from dcounter.cli.explaining import explained
from dcounter.cli.watching import in_words
from dcounter.client import ExportCutShort, Refused, Unexpected, Unreachable
from dcounter.errors import DcounterError
from dcounter.http.audit_bodies import AuditResult

URL = "http://a:1"


def refused(code: str, detail: str = "why", **more: Any) -> Refused:
    return Refused(400, {"title": "Title", "detail": detail, "code": code, **more})


def unreachable(cause: Exception, *, sent: bool) -> Unreachable:
    error = Unreachable(cause, sent=sent)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "exit", "said"),
    [
        (
            unreachable(ConnectionRefusedError(), sent=False),
            Exit.UNAVAILABLE,
            ["nothing listens there", "Nothing was sent", "dcounter serve"],
        ),
        (
            unreachable(TimeoutError("late"), sent=True),
            Exit.UNKNOWN,
            ["no answer from http://a:1: no answer in time", "not known"],
        ),
        (
            unreachable(ResponseNeverReceived([Failure(ConnectionDone())]), sent=True),
            Exit.UNKNOWN,
            ["no answer from http://a:1: the connection was closed"],
        ),
        (
            unreachable(
                ResponseNeverReceived([Failure(Exception([("", "", "certificate verify failed")]))]),
                sent=True,
            ),
            Exit.UNAVAILABLE,
            ["cannot trust http://a:1", "Nothing was sent", "SSL_CERT_FILE"],
        ),
        (Unreachable(ValueError("odd"), sent=True), Exit.UNKNOWN, ["odd"]),
        (Unexpected(502, b"<html>"), Exit.UNKNOWN, ["status 502", "proxy"]),
        (
            refused("invalid_item", outcome="not_applied"),
            Exit.REFUSED,
            ["Title: why", "Nothing was changed."],
        ),
        (
            refused("unavailable", outcome="not_applied", retryable=True),
            Exit.UNAVAILABLE,
            ["may succeed later"],
        ),
        (refused("deadline", outcome="unknown", retryable=True), Exit.UNKNOWN, ["not known"]),
        (refused("erase_stopped", outcome="partial"), Exit.UNKNOWN, ["Only a part"]),
        (refused("ack_not_reached", outcome="stored"), Exit.UNKNOWN, ["not on as many nodes"]),
        (refused("unauthenticated"), Exit.REFUSED, ["--token-file"]),
        (refused("forbidden", "only the operator may"), Exit.REFUSED, ["operator-token"]),
        (refused("incomplete", retryable=True), Exit.UNAVAILABLE, ["--consistency available"]),
        (ExportCutShort("the export ended after 3 lines"), Exit.FAILED, ["after 3 lines"]),
    ],
)
def test_errors(error: DcounterError, exit: Exit, said: list[str]) -> None:
    failed = explained(error, URL)
    assert failed.exit == exit
    text = "\n".join([failed.message, *failed.notes])
    assert [each for each in said if each not in text] == []


def test_texts_of_the_daemon_do_no_harm() -> None:
    assert "\x1b" not in explained(refused("x", "the tenant \x1b[2J"), URL).message


def test_what_is_said_twice_is_left_out() -> None:
    failed = explained(refused("x", "no; nothing of the request was stored", outcome="not_applied"), URL)
    assert failed.notes == ()


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("count", {"tenant": "a\n", "counter": 3}, "           3  a\\n"),
        ("node", {"node": 2, "change": "down"}, "node 2 is down"),
        (
            "node",
            {"node": 2, "change": "refuses", "reason": "disk full"},
            "node 2 takes no writes: disk full",
        ),
        ("node", {"node": 2, "change": "new word"}, "node 2 new word"),
        ("reset", {"position": "p"}, "events are missing: ask for the counts again"),
        ("dropped", {"code": "slow", "detail": "too slow"}, "the daemon ends this: too slow"),
        ("hello", {}, None),
    ],
)
def test_events_in_words(name: str, data: dict[str, Any], text: str | None) -> None:
    assert in_words(name, data) == text


def test_differences_are_told_with_what_to_do() -> None:
    import msgspec

    row = {"state": "stored", "tenant": "a"}
    found = msgspec.convert(
        {
            "equal": False,
            "position": "p",
            "finished": "2026-01-01T00:00:00Z",
            "duration_ms": 1500,
            "nodes": [0, 1],
            "not_audited": [{"node": 2, "why": "it is down"}],
            "items": 5,
            "tombstones": 1,
            "digest": "d",
            "repaired": [1],
            "differences": {
                "wrong_nodes": [1],
                "undecided": True,
                "counts": [
                    {
                        "tenant": None,
                        "right": 1,
                        "nodes": [{"node": 0, "kept": 1, "counted": 2}],
                        "wrong": [0],
                    }
                ],
                "all_counts": 1,
                "items": [
                    {
                        "ID": 7,
                        "right": row,
                        "decided": True,
                        "nodes": [{"node": 0, "row": row}, {"node": 1, "row": {"state": "unknown"}}],
                        "wrong": [1],
                    }
                ],
                "all_items": 1,
                "more": False,
            },
        },
        AuditResult,
    )
    text = picture(found)
    for part in (
        "the nodes 0, 1 do not agree: 5 items, 1 deleted IDs, in 1.5 s",
        "node 2 was not audited: it is down",
        "made anew before: node 1",
        "wrong: node 1. To make it anew: dcounter audit --repair",
        "it is not known which are wrong",
        "count of deleted IDs: node 0 tells 1 and has 2",
        "ID 7: node 0: a, node 1: unknown",
    ):
        assert part in text

"""
What the process of a node does when its daemon says so.
"""

from twisted.internet.testing import MemoryReactorClock

from dcounter.daemon.instructions import Instructions


def test_each_goes_where_it_belongs_however_it_is_cut() -> None:
    done: list[tuple[str, str]] = []
    service = Instructions(
        {
            "secrets": lambda text: done.append(("secrets", text)),
            "log-level": lambda text: done.append(("log-level", text)),
        },
        MemoryReactorClock(),
    )
    for part in (b"sec", b"rets ab,cd\nlog-level debug", b"\nunknown x\nword\nsecrets ef\n"):
        service.childDataReceived("stdin", part)
    assert done == [("secrets", "ab,cd"), ("log-level", "debug"), ("secrets", "ef")]

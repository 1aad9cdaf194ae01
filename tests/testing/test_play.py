"""
A story is decided by its seed and its setting, and by nothing else.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.node.replica import Replica
from dcounter.protocol.messages import Record
from dcounter.testing.parts import Parts
from dcounter.testing.play import play
from dcounter.testing.setting import Setting

_log = Logger()


def test_a_seed_repeats_its_story_whatever_was_played_before(
    expected_failures: Callable[..., list[Failure]],
) -> None:
    # In some moments of this one, what the garbage collector did to dead processes made a difference.
    stories = [play(seed, Setting(), trace=True).log for seed in (7346, 1, 7346)]
    assert stories[0] == stories[2] != stories[1]
    expected_failures()


def test_a_setting_names_only_events_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no such events: \['kil'\]"):
        play(0, Setting(frequencies={"kil": 3}))


def _fails_to_start(*_: object, **__: object) -> Replica:
    raise RuntimeError("no node starts")


class LoudReplica(Replica):
    """
    Logs a failure.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        _log.failure("as planned", Failure(ZeroDivisionError()))


class DeafReplica(Replica):
    """
    Takes nothing from others.
    """

    def _follow_record(self, channel: int, record: Record, line: bytes) -> None:
        pass


@pytest.mark.parametrize(
    ("replica", "problem"),
    [
        (_fails_to_start, r"the world ended: [^$]*no node starts"),
        (LoudReplica, r"logged: [^$]*ZeroDivisionError"),
        (DeafReplica, r"the nodes do not become equal, or requests are never answered"),
    ],
)
def test_whatever_goes_wrong_is_a_problem(
    replica: Callable[..., Replica], problem: str, expected_failures: Callable[..., list[Failure]]
) -> None:
    parts = Parts(replica=replica)
    often = {"store": 1_000}
    setting = Setting(disks=False, kills=False, events=5, nodes=(2,), parts=parts, frequencies=often)
    problems = play(0, setting).problems
    assert any(re.search(problem, each) for each in problems), problems
    expected_failures()

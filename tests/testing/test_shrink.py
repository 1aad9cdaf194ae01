"""
A failing story is made shorter.
"""

from collections.abc import Callable

from twisted.python.failure import Failure

from dcounter.testing.play import play
from dcounter.testing.setting import Setting
from dcounter.testing.shrink import shrink
from tests.faults.test_planted import FAULTS


def test_a_failing_story_is_made_shorter(expected_failures: Callable[..., list[Failure]]) -> None:
    setting = FAULTS["clock not advanced at the start"].setting()
    shorter = shrink(0, setting)
    assert play(0, shorter).problems
    assert len(shorter.without) > setting.events // 2
    without_fault = Setting(
        events=shorter.events, without=shorter.without, frequencies=shorter.frequencies, nodes=shorter.nodes
    )
    assert not play(0, without_fault).problems
    expected_failures()

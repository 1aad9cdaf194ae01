"""
A story is decided by its seed and its setting, and by nothing else.
"""

from collections.abc import Callable

import pytest
from twisted.python.failure import Failure

from dcounter.testing.play import play
from dcounter.testing.setting import Setting


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

"""
Whole clusters under random histories: what was answered must hold, whatever broke meanwhile.

A failure names its seed. To repeat it, or to run more of them, see `python -m dcounter.testing --help`.
"""

from collections.abc import Callable

import pytest
from twisted.python.failure import Failure

from dcounter.testing.play import play
from dcounter.testing.setting import Setting

_MEMORY = Setting(disks=False, kills=False)
SETTINGS = {
    "disks": (Setting(), range(60)),
    "memory": (_MEMORY, range(40)),
    "memory, and nodes die": (Setting(disks=False), range(40)),
}
_PER_TEST = 10


@pytest.mark.parametrize(
    ("kind", "seeds"),
    [
        (kind, seeds[first : first + _PER_TEST])
        for kind, (_, seeds) in SETTINGS.items()
        for first in range(0, len(seeds), _PER_TEST)
    ],
    ids=str,
)
def test_random_histories(kind: str, seeds: range, expected_failures: Callable[..., list[Failure]]) -> None:
    exact = 0
    for seed in seeds:
        history = play(seed, SETTINGS[kind][0])
        exact += history.exact
        if history.problems:
            expected_failures()
            pytest.fail(
                f"seed {seed}: {len(history.problems)} problems, the first: {history.problems[0]}\n"
                + "\n".join(history.log[-60:]),
                pytrace=False,
            )
    # A checker that sees no answers proves nothing.
    assert exact > 3 * len(seeds)
    # The failures that a loss of power leaves are meant.
    expected_failures()


def test_a_seed_repeats_its_history(expected_failures: Callable[..., list[Failure]]) -> None:
    assert play(3).log == play(3).log
    expected_failures()

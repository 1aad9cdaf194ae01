"""
Whole clusters under random histories: what was answered must hold, whatever broke meanwhile.

A failure names its seed. To repeat it, or to run more of them, see `python -m dcounter.testing --help`.
"""

import subprocess
import sys
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


@pytest.mark.parametrize("more", [["--seeds", "0:100"], ["--seeds", "0:40", "--memory"]])
def test_whatever_happens_what_callers_are_told_is_true(more: list[str]) -> None:
    # Not from here: a fork would take this process's reactor along.
    command = [sys.executable, "-m", "dcounter.testing", "--jobs", "2", *more]
    played = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert played.returncode == 0, played.stdout + played.stderr
    assert f"{more[1].removeprefix('0:')} seeds, 0 failed []; " in played.stdout

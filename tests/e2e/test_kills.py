"""
The short form of the kill loop; `make test-faults` has the long one.
"""

from pathlib import Path

from tests.faults.kills import VICTIMS, kill_loop


def test_what_was_acknowledged_survives_kill_9_of_anything(tmp_path: Path) -> None:
    # Nobody is suspected for being slow: the machine may be busy.
    figures = kill_loop(tmp_path, len(VICTIMS), seed=1, requests=5, options=["--suspicion=10"])
    assert figures.rounds == 4
    assert figures.acknowledged

"""
`python -m dcounter.testing`: what it plays and prints.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.python.failure import Failure

from dcounter.testing.__main__ import main
from dcounter.testing.digest import digest
from tests.faults.test_planted import FAULTS


def test_a_seed_is_played_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--events", "10", "--trace"]) == 0
    told = capsys.readouterr().out
    assert "store 1" in told
    assert "listens on port" in told
    assert told.endswith("seed 7: 10 events, 0 problems\n")


def test_many_seeds_are_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0:4", "--events", "10", "--jobs", "1", "--memory"]) == 0
    assert capsys.readouterr().out.startswith("4 seeds, 0 failed []; ")


def test_what_fails_is_told(
    capsys: pytest.CaptureFixture[str],
    expected_failures: Callable[..., list[Failure]],
) -> None:
    faulty = FAULTS["clock not advanced at the start"].setting()
    events = ["--events", str(faulty.events)]
    assert main(["--seeds", "0:1", "--jobs", "1", *events], faulty) == 1
    assert "1 failed [0]" in capsys.readouterr().out
    assert main(["--seed", "0", "--shrink", *events], faulty) == 1
    assert "PROBLEM" in capsys.readouterr().out
    expected_failures()


def test_digests_are_written_one_line_a_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "digests"
    assert main(["--seeds", "2:5", "--events", "5", "--jobs", "1", "--digest", str(file)]) == 0
    text = file.read_text()
    assert text == "".join(f"{seed} {' '.join(digest(seed, 5))}\n" for seed in (2, 3, 4))
    assert len(set(text.split())) == 9
    assert capsys.readouterr().out.startswith("3 seeds, ")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "one of the arguments --seeds --seed is required"),
        (["--seeds", "7"], "'7' is not FIRST:END, for example 0:1000"),
        (["--seeds", "a:b"], "'a:b' is not FIRST:END"),
        # All of no seeds hold.
        (["--seeds", "7:7"], "no seed lies in 7:7"),
        (["--seed", "7", "--digest", "file"], "--digest needs --seeds"),
        (["--seeds", "0:7", "--trace"], "--trace and --shrink need --seed"),
        (["--seeds", "0:7", "--shrink"], "--trace and --shrink need --seed"),
        (["--seeds", "0:7", "--digest", "file", "--memory"], "leave out --memory"),
        (["--seeds", "0:7", "--jobs", "0"], "'0' is not an integer >= 1"),
        (["--seed", "7", "--events", "few"], "'few' is not an integer >= 1"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert why in capsys.readouterr().err

"""
docs/tutorial.md tells the time of each of its steps, and they take less than five minutes.
"""

import re

from tests.tutorial import PAGE, steps

_TEXT = PAGE.read_text("utf-8")
_ROW = re.compile(r"^\| (?P<title>\d+\. .+) \| (?P<takes>[\d.]+) s \| (?P<after>[\d.]+) s \|$", re.MULTILINE)


def test_the_times_are_those_of_the_steps() -> None:
    rows = list(_ROW.finditer(_TEXT))
    assert [row["title"] for row in rows] == [step.title for step in steps(_TEXT) if step.commands]
    assert sum(float(row["takes"]) for row in rows) < 300
    assert float(rows[-1]["after"]) < 300


def test_the_first_steps_are_a_clone_and_a_start() -> None:
    clone, start, fill, *_ = [step.commands for step in steps(_TEXT) if step.commands]
    assert clone == ['git clone "$REPOSITORY" dcounter\ncd dcounter\n']
    assert start == ["make run\n"]
    assert fill[0].endswith("\ndcounter demo\n")

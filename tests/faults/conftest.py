"""
Real faults: what they did is shown in a table at the end.
"""

from collections.abc import Callable

import pytest

from tests.faults.figures import Figures

Table = Callable[[Figures], None]

_figures: list[Figures] = []


@pytest.fixture
def table() -> Table:
    """
    Takes a row for the table at the end.
    """
    return _figures.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("faults")
        terminalreporter.write_line(Figures.heading())
        for each in _figures:
            terminalreporter.write_line(each.shown())

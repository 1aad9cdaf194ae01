"""
Terminals for tests of commands.
"""

import pytest

from tests.support.commands import Terminal


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    """
    A terminal whose commands call an API in memory.
    """
    from twisted.internet import reactor

    return Terminal(capsys, reactor)

import pytest

from tests.support.journals import Shell


@pytest.fixture
def shell() -> Shell:
    return Shell().start()

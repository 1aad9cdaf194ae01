"""
The guard in ``conftest.py`` fails the tests that it must fail, and only those.

Each run below is a pytest of its own with a copy of that file.
"""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py")

IMPORTS = """
import subprocess, sys
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
_log = Logger()
"""

# Every test in here passes by itself and leaves something behind.
CARELESS = {
    "delayed_call": (
        """
def test_delayed_call():
    reactor.callLater(60, print)
""",
        "*a delayed call is pending: *",
    ),
    "delayed_call_in_async_test": (
        """
@pytest_twisted.ensureDeferred
async def test_delayed_call_in_async_test():
    await deferLater(reactor, 0)
    reactor.callLater(60, print)
""",
        "*a delayed call is pending: *",
    ),
    "listening_port": (
        """
def test_listening_port():
    reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
""",
        "*a reader or writer is open: *",
    ),
    "connection": (
        """
@pytest_twisted.ensureDeferred
async def test_connection():
    factory = Factory.forProtocol(Protocol)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(factory)
    await port.stopListening()
""",
        "*a reader or writer is open: *",
    ),
    "child_of_twisted": (
        """
def test_child_of_twisted():
    reactor.spawnProcess(ProcessProtocol(), "/bin/sleep", ["sleep", "60"])
""",
        "*a child process is there: *sleep 60*",
    ),
    "child_of_subprocess": (
        """
kept = []
def test_child_of_subprocess():
    kept.append(subprocess.Popen(["/bin/sleep", "61"]))
""",
        "*a child process is there: *sleep 61*",
    ),
    "logged_failure": (
        """
def test_logged_failure():
    try:
        1 / 0
    except ZeroDivisionError:
        _log.failure("told by the test")
""",
        "*a failure was logged:*",
    ),
    "unhandled_deferred": (
        """
def test_unhandled_deferred():
    fail(LookupError("nobody listens"))
""",
        "*nobody listens*",
    ),
    "unhandled_deferred_in_a_cycle": (
        """
@pytest_twisted.ensureDeferred
async def test_unhandled_deferred_in_a_cycle():
    lost = fail(LookupError("nobody listens in here"))
    lost.itself = lost
""",
        "*nobody listens in here*",
    ),
    "other_failure_than_expected": (
        """
def test_other_failure_than_expected(expected_failures):
    fail(LookupError("not the expected one"))
    assert expected_failures(ZeroDivisionError) == []
""",
        "*not the expected one*",
    ),
}

# What the guard could not make undone would haunt every test after.
NOTHING_LIVES_ON = """
def test_nothing_lives_on():
    assert reactor.getDelayedCalls() == []
    assert kept[0].wait(timeout=5) < 0
    assert set(reactor.getReaders()) <= reactor._internalReaders
"""

CAREFUL = """
@pytest_twisted.async_yield_fixture
async def port():
    factory = Factory.forProtocol(Protocol)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    yield port
    await port.stopListening()

@pytest_twisted.async_yield_fixture(scope="module")
async def shared():
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    call = reactor.callLater(60, print)
    yield port
    call.cancel()
    await port.stopListening()

def test_pure():
    pass

def test_fixture_closes(port):
    pass

def test_shared_outlives_it(shared):
    pass

@pytest_twisted.ensureDeferred
async def test_still_closing(port):
    factory = Factory.forProtocol(Protocol)
    client = await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(factory)
    client.transport.loseConnection()

def test_due_at_once():
    reactor.callLater(0, print)

def test_child_that_ends():
    reactor.spawnProcess(ProcessProtocol(), "/bin/true", ["true"])

def test_says_what_it_expects(expected_failures):
    fail(LookupError("expected"))
    [failure] = expected_failures(LookupError)
    assert failure.getErrorMessage() == "expected"

def test_says_that_it_expects_anything(expected_failures):
    fail(LookupError("expected"))
    fail(ZeroDivisionError("expected"))
    assert len(expected_failures()) == 2
"""


@pytest.fixture
def guarded(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
    return pytester


def test_careless_tests_fail_and_their_neighbours_do_not(guarded: pytest.Pytester) -> None:
    # Behind each careless test a pure one, which must not be blamed for its predecessor.
    neighbours = "".join(
        f"{source}\ndef test_after_{name}():\n    pass\n" for name, (source, _) in CARELESS.items()
    )
    guarded.makepyfile(IMPORTS + neighbours + NOTHING_LIVES_ON)

    result = guarded.runpytest_subprocess()

    result.assert_outcomes(passed=2 * len(CARELESS) + 1, errors=len(CARELESS))
    for name, (_, message) in CARELESS.items():
        result.stdout.fnmatch_lines([f"*ERROR at teardown of test_{name} *", message])
    result.stdout.no_fnmatch_line("*ERROR at teardown of test_after_*")


def test_careful_tests_pass(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(IMPORTS + CAREFUL)

    result = guarded.runpytest_subprocess()

    result.assert_outcomes(passed=8)
    assert result.ret == pytest.ExitCode.OK


def test_failure_logged_after_the_last_test_fails_the_run(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(
        IMPORTS
        + """
import pytest

@pytest.fixture(scope="module")
def careless_module():
    older = fail(LookupError("older than the test"))
    older.itself = older
    yield
    fail(LookupError("too late"))

def test_it(careless_module):
    pass
"""
    )

    result = guarded.runpytest_subprocess()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*logged after the last test*"])
    result.stdout.fnmatch_lines_random(["*too late*", "*older than the test*"])


def test_hypothesis_has_no_deadline_here(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(
        """
from hypothesis import settings

def test_profile():
    assert settings.get_current_profile_name() == "ci"
    assert settings().deadline is None
    assert settings().print_blob
    assert settings().derandomize
"""
    )

    guarded.runpytest_subprocess().assert_outcomes(passed=1)

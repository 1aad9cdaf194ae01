"""
What the OpenAPI document says of a live daemon is true: schemathesis makes requests from it, valid ones and
others, and compares each answer with it. `make test-openapi` does so for longer.
"""

import os
import re
import sys
from pathlib import Path

import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests.e2e.conftest import StartDaemon

_ROOT = Path(__file__).parents[2]
_HERE = _ROOT / "tests" / "openapi"
_PHASES = "examples,coverage,fuzzing,stateful"
EXAMPLES = os.environ.get("DCOUNTER_OPENAPI_EXAMPLES", "3")
"""
How many cases each operation gets at most, in the phases that draw them at random.
"""
SEED = os.environ.get("DCOUNTER_OPENAPI_SEED", "1")
_CASES = re.compile(r"(\d+) generated")


@pytest_twisted.ensureDeferred
async def test_the_document_is_true(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon("--nodes=3", processes=True)
    client = daemon.client()
    position = (await client.store([{"ID": 1, "tenant": "hello"}]))["position"]
    await client.close()
    token = daemon.token.read_text().strip()
    command = [
        *("--config-file", str(_HERE / "schemathesis.toml"), "run"),
        f"http://127.0.0.1:{daemon.ports.http}/openapi.json",
        *("--header", f"Authorization: Bearer {token}", "--phases", _PHASES, "--checks", "all"),
        *("--max-examples", EXAMPLES, "--seed", SEED),
    ]
    environment = {
        **os.environ,
        "DCOUNTER_POSITION": position,
        "PYTHONPATH": str(_ROOT),
        "SCHEMATHESIS_HOOKS": "tests.openapi.hooks",
    }
    output, errors, code = await getProcessOutputAndValue(
        str(Path(sys.executable).with_name("st")), command, environment, str(tmp_path)
    )
    # Shown if the test fails, and by `make test-openapi`.
    print(output.decode(), errors.decode())  # noqa: T201
    assert code == 0
    # Lest nothing was tested: every operation but the stream of events, and hundreds of cases.
    told = output.decode()
    [[selected, total]] = re.findall(r"Selected: (\d+)/(\d+)", told)
    [tested] = re.findall(r"Tested: (\d+)", told)
    assert int(tested) == int(selected) == int(total) - 1
    assert int(_CASES.findall(told)[0]) > 300

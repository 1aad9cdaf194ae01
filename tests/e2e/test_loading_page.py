"""
The commands of docs/loading.md load what they say.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import TWISTD

_PAGE = (Path(__file__).parents[2] / "docs" / "loading.md").read_text("utf-8")
_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
_PSQL = """
psql() { printf '{"ID" : %d, "tenant" : "acme"}\\n' 11 12 13; }
"""


@pytest_twisted.ensureDeferred
async def test_all_commands_in_order(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon()
    url = f"http://127.0.0.1:{daemon.ports.http}"
    lines = [f'{{"ID": {number}, "tenant": "acme"}}\n' for number in range(10)]
    (tmp_path / "items.ndjson").write_text("".join(lines))
    script = _PSQL + "".join(_BLOCKS).replace("http://127.0.0.1:8085", url)
    environment = {"PATH": f"{TWISTD.parent}:/usr/bin:/bin", "DCOUNTER_URL": url, "HOME": os.environ["HOME"]}
    output: Any = await getProcessOutputAndValue(
        "/bin/bash", ["-euo", "pipefail", "-c", script], environment, str(tmp_path)
    )
    out, err, code = output
    assert code == 0, err.decode()
    assert len(_BLOCKS) == 4
    # Of the load over HTTP, then the count of one tenant, then the list.
    assert b'"items":10' in out
    assert out.decode().split("}")[-1].split() == ["13", "13", "acme"]

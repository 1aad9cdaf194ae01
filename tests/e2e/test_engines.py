"""
A daemon over a store that cannot do everything: the engine of docs/extending.md, in a process of its own.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from dcounter.http.table import ROUTES
from tests.e2e.harness import Ports

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "extending.md"

_STEPS = """
trap 'kill %1; wait' EXIT
"$PYTHON" -P engine.py &
ask() { curl -s "$@" -w '\\n'; }
until curl -sf "$URL/healthz" > ready; do sleep 0.1; done
ask "$URL/items" -d '[{"ID":1,"tenant":"a"},{"ID":2,"tenant":"a"},{"ID":1,"tenant":"b"}]'
ask "$URL/items?lastUpdateDt=2001-01-01T00:00:00Z" -d '[{"ID":1,"deleted":true}]'
ask "$URL/items/a/count"
ask "$URL/items/lookup" -d '[2,1,3]'
printf '{"ID":%d,"tenant":"load"}\\n' $(seq 2001 4500) |
ask -X POST -T - -H 'Content-Type: application/x-ndjson' "$URL/items"
ask "$URL/tenants/load"
ask "$URL/openapi.json"
for path in stats export events audit counts tenants tenants/a/items; do ask "$URL/$path"; done
ask -X DELETE "$URL/tenants/a"
ask "$URL/items?receipt=1" -d '[{"ID":7,"tenant":"a"}]'
ask "$URL/tenants/a"
"""


@pytest_twisted.ensureDeferred
async def test_what_it_cannot_do_is_refused_and_not_in_its_document(tmp_path: Path, ports: Ports) -> None:
    section = _PAGE.read_text().split("\n## An engine\n")[1].split("\n## ")[0]
    [engine] = re.findall(r"\n```python\n(.*?)```\n", section, re.DOTALL)
    (tmp_path / "engine.py").write_text(engine.replace("8085", str(ports.http)))
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "PYTHONPATH": str(_ROOT),
        "URL": f"http://127.0.0.1:{ports.http}",
    }
    output: Any = await getProcessOutputAndValue("/bin/bash", ["-c", _STEPS], environment, str(tmp_path))
    print(output[1].decode())  # noqa: T201 - shown if the test fails
    stored, deleted, count, looked, load, loaded, document, *others = map(json.loads, output[0].splitlines())
    assert (stored["items"], deleted["items"], count["counter"]) == (3, 1, 1)
    # The older deletion lost.
    assert [(each["ID"], each["tenant"]) for each in looked["items"]] == [(2, "a"), (1, "b")]
    assert looked["unknown"] == [3]
    assert (load["items"], load["position"], loaded["counter"]) == (2_500, loaded["position"], 2_500)
    # It is said before anyone tries, and to those who try.
    able = {route.path for route in ROUTES if route.needs in {None, "look_up"} and not route.successor}
    assert able <= document["paths"].keys()
    assert not {"/stats", "/export", "/events", "/audit", "/counts"} & document["paths"].keys()
    assert document["paths"]["/tenants/{tenant}"].keys() == {"get"}
    storing = document["paths"]["/items"]["post"]
    assert "receipt" not in {each.get("name") for each in storing["parameters"]}
    assert "receipts" not in json.dumps(storing)
    *refused, last = others
    assert [each["code"] for each in refused] == ["not_supported_here"] * 9
    assert last["counter"] == 1

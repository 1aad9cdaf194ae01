"""
What Prometheus makes of our files, and of what a daemon shows: `make test-prometheus`.
"""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.e2e.conftest import CALM
from tests.e2e.harness import Client, Daemon, Ports, Raw, eventually, is_open, items

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "etc" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "etc" / "grafana" / "dcounter.json").read_text("utf-8"))

_MAY_BE_EMPTY = {"Refusals"}
"""
Panels that show nothing while nothing is wrong.
"""


def promtool(*arguments: str, given: bytes = b"") -> str:
    """
    What it says; it must be content.
    """
    program = shutil.which("promtool")
    assert program is not None, "install the package prometheus, or run: make test-prometheus"
    run = subprocess.run([program, *arguments], input=given, capture_output=True, check=False, timeout=60)
    said = (run.stdout + run.stderr).decode()
    assert run.returncode == 0, said
    return said


def test_the_configuration_and_its_alerts_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", str(CONFIGURATION / "prometheus.yml"))


def test_alerts_fire_when_something_is_wrong_and_else_not() -> None:
    tests = ROOT / "tests" / "prometheus" / "alerts.test.yml"
    assert "SUCCESS" in promtool("test", "rules", str(tests))
    alerts = re.findall(r"- alert: (\w+)", (CONFIGURATION / "alerts.yml").read_text("utf-8"))
    assert set(re.findall(r'\{alertname="(\w+)"\}', tests.read_text("utf-8"))) == set(alerts)


class Scraped:
    """
    A daemon with nodes in processes of their own, and a Prometheus that scrapes it every second.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = Ports()
        self._prometheus: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self.daemon = await Daemon.start(self._directory, CALM, "--nodes=2", processes=True)
        text = (CONFIGURATION / "prometheus.yml").read_text("utf-8")
        text = text.replace("127.0.0.1:8085", f"127.0.0.1:{self.daemon.ports.http}")
        text = text.replace("15s", "1s").replace("alerts.yml", str(CONFIGURATION / "alerts.yml"))
        configuration = self._directory / "prometheus.yml"
        configuration.write_text(text, "utf-8")
        self._prometheus = self._spawn(configuration)

        async def listens() -> bool:
            return is_open(self._ports.http)

        await eventually(listens, what="Prometheus")

    def _spawn(self, configuration: Path) -> subprocess.Popen[bytes]:
        program = shutil.which("prometheus")
        assert program is not None
        with open(self._directory / "prometheus.log", "wb") as log:
            return subprocess.Popen(
                [
                    program,
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={self._directory}/tsdb",
                    f"--web.listen-address=127.0.0.1:{self._ports.http}",
                ],
                stdout=log,
                stderr=log,
            )

    async def stop(self) -> None:
        if self._prometheus is not None:
            self._prometheus.send_signal(signal.SIGTERM)
            self._prometheus.wait(20)
        self._ports.release()
        await self.daemon.stop()

    async def query(self, expression: str) -> list[Any]:
        """
        The series that an expression has now.
        """
        client = Client(self._ports.http)
        answer = await client.ask("GET", f"/api/v1/query?query={quote(expression)}")
        await client.close()
        assert answer.status == 200, answer.content
        assert answer.content["status"] == "success"
        return list(answer.content["data"]["result"])


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    found = Scraped(tmp_path_factory.mktemp("prometheus"))
    pytest_twisted.blockon(Deferred.fromCoroutine(found.start()))
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


@pytest_twisted.ensureDeferred
async def test_what_a_daemon_shows_is_as_prometheus_wants_it(scraped: Scraped) -> None:
    client = scraped.daemon.client()
    await client.store(items(range(10), "hello"))
    await client.count("hello")
    await client.operate("/audit", {})
    await client.close()
    connection = await Raw.connect(scraped.daemon.ports.http)
    connection.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    await connection.until_closed()
    _, _, text = bytes(connection.received).partition(b"\r\n\r\n")
    # It lists what could be better.
    assert promtool("check", "metrics", given=text) == ""


@pytest_twisted.ensureDeferred
async def test_each_panel_of_the_dashboard_has_something_to_show(scraped: Scraped) -> None:
    instance = f"127.0.0.1:{scraped.daemon.ports.http}"
    client = scraped.daemon.client()
    ids = iter(range(1_000_000))
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in {
                "$job": "dcounter",
                "$instance": instance,
                "$node": ".*",
                "[$__rate_interval]": "[5s]",
            }.items():
                expression = expression.replace(name, value)
            assert "$" not in expression

            async def shown(expression: str = expression) -> bool:
                await client.store(items([next(ids)], "hello"))
                await client.count("hello")
                return bool(await scraped.query(expression))

            if panel["title"] in _MAY_BE_EMPTY:
                await scraped.query(expression)
            else:
                await eventually(shown, what=f"{panel['title']}: {expression}")
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_well_raises_no_alert(scraped: Scraped) -> None:
    firing = await scraped.query('ALERTS{alertstate="firing"}')
    assert [each["metric"]["alertname"] for each in firing] == []

"""
The examples for containers, as far as that shows without an engine: files exist, command lines are accepted.
"""

import json
import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from twisted.python.usage import Options as AnyOptions

from dcounter.daemon.options import Options

_ROOT = Path(__file__).parents[2]
_CONTAINERFILE = (_ROOT / "etc" / "Containerfile").read_text("utf-8")
_SERVICES: dict[str, Any] = yaml.safe_load((_ROOT / "etc" / "compose.yaml").read_text("utf-8"))["services"]
_PAGE = (_ROOT / "docs" / "containers.md").read_text("utf-8")


def _accepted(arguments: list[str]) -> AnyOptions:
    options = Options()
    options.parseOptions(arguments)
    return options


def _list(instruction: str) -> list[str]:
    [found] = re.findall(rf"^{instruction} (\[.*\])$", _CONTAINERFILE, re.MULTILINE)
    value: list[str] = json.loads(found)
    return value


def test_the_image_has_all_packages_and_what_it_copies_exists() -> None:
    sources = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", _CONTAINERFILE, re.MULTILINE)).split()
    assert [each for each in sources if not (_ROOT / each).exists()] == []
    config = ConfigParser()
    config.read(_ROOT / "setup.cfg")
    assert {each.partition(".")[0] for each in config["options"]["packages"].split()} <= {*sources}
    assert {config["metadata"]["long_description"].removeprefix("file: "), "LICENSE"} <= {*sources}


def test_the_image_starts_a_daemon() -> None:
    assert _list("ENTRYPOINT") == ["dcounter", "serve"]
    assert _accepted(_list("CMD"))["data-dir"] in re.findall(r"^VOLUME (.*)$", _CONTAINERFILE, re.MULTILINE)


def test_the_page_starts_a_daemon() -> None:
    [arguments] = re.findall(r"dcounter (--http .*)$", _PAGE, re.MULTILINE)
    assert _accepted(arguments.split())["insecure"]


@pytest.mark.parametrize("machine", range(3))
def test_the_services_are_accepted(machine: int, tmp_path: Path) -> None:
    others = [each for each in range(3) if each != machine]
    [shown] = re.findall(r"\n   ```sh\n((?:   [A-Z_0-9]+=.*\n)+)   ```\n", _PAGE)
    environment = dict(line.strip().split("=", 1) for line in shown.splitlines())
    if machine:
        environment |= {"NODE_ID": f"{machine}", "ADDRESS": f"10.0.0.1{machine}"}
        environment |= {
            f"PEER_{number}": f"{node}=tcp:10.0.0.1{node}:8090" for number, node in enumerate(others, 1)
        }
    (tmp_path / "cluster").write_text("a secret of the cluster")
    (tmp_path / "tokens").write_text("")
    commands = {
        name: [
            re.sub(r"\$\{(\w+)\}", lambda match: environment[match[1]], each).replace(
                "/run/secrets", str(tmp_path)
            )
            for each in service["command"]
        ]
        for name, service in _SERVICES.items()
    }
    node = _accepted(commands["node"]).subOptions
    assert node["id"] == machine
    assert {*node["peers"]} == {*others}
    assert len(_accepted(commands["coordinator"])["join"]) == 3

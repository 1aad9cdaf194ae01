"""
What systemd itself says of the units in etc.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

_ETC = Path(__file__).parents[2] / "etc"
_UNITS = sorted(path.name for path in _ETC.iterdir() if path.suffix in (".service", ".socket"))

_MOST_EXPOSED = 1.5
"""
From 0, no rights, to 10.
"""


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """
    The units, with programs that are on this machine.
    """
    for name in _UNITS:
        text = re.sub(r"/opt/dcounter/bin/\w+", "/bin/true", (_ETC / name).read_text())
        (tmp_path / name).write_text(text)
    return tmp_path


def test_they_are_right(units: Path) -> None:
    found = _analyze("verify", "--man=no", *(str(units / name) for name in _UNITS))
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name in _UNITS if name.endswith(".service")])
def test_they_have_few_rights(name: str, units: Path) -> None:
    limit = f"--threshold={round(10 * _MOST_EXPOSED)}"
    found = _analyze("security", "--offline=true", "--json=short", limit, str(units / name))
    rights = [each for each in json.loads(found.stdout) if each["set"] is False]
    assert found.returncode == 0, "\n".join(f"{each['exposure']} {each['name']}" for each in rights)


def test_there_are_some() -> None:
    assert len(_UNITS) >= 2

"""
The house stands: imports go to the same or a lower floor, and the pure floors know nothing of Twisted.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dcounter"

# A new module gets its floor here first. The package itself holds a version and nothing else.
FLOORS = {
    "dcounter": 0,
    "dcounter.errors": 0,
    "dcounter.clock": 0,
    "dcounter.wire": 0,
    "dcounter.position": 0,
    "dcounter.columns": 0,
    "dcounter.placement": 0,
    "dcounter.store": 0,
    "dcounter.items": 0,
    "dcounter.limits": 0,
    "dcounter.handshake": 0,
    "dcounter.holders": 0,
    "dcounter.throttle": 0,
    "dcounter.records": 0,
    "dcounter.remedies": 0,
    "dcounter.account": 0,
    "dcounter.rebuild": 0,
    "dcounter.startup": 0,
    "dcounter.index": 1,
    "dcounter.ledger": 1,
    "dcounter.log": 1,
    "dcounter.replica": 1,
    "dcounter.membership": 1,
    "dcounter.dispatch": 1,
    "dcounter.locks": 2,
    "dcounter.unix_sockets": 2,
    "dcounter.kept": 2,
    "dcounter.setting_aside": 2,
    "dcounter.disk": 2,
    "dcounter.datadir": 2,
    "dcounter.operator_token": 2,
    "dcounter.trial": 2,
    "dcounter.journal": 2,
    "dcounter.link": 2,
    "dcounter.node": 2,
    "dcounter.coordinator": 2,
    "dcounter.supervisor": 2,
    "dcounter.logs": 2,
    "dcounter.listening": 2,
    "dcounter.process": 2,
    "dcounter.engine": 2,
    "dcounter.http": 3,
    "dcounter.tap": 4,
    "dcounter.cli": 4,
}
# Floors 0 and 1.
PURE = [name for name, floor in FLOORS.items() if floor <= 1]
# It builds whole clusters for tests: it may import what it likes, nobody but tests imports it.
FREE = "dcounter.testing"


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _floor(module: str) -> int:
    """
    The floor of a module, which may be that of the package it is in.
    """
    known = module
    while known not in FLOORS:
        known = known.rpartition(".")[0]
    assert known != "dcounter" or module == known, f"give {module} a floor in the table above"
    return FLOORS[known]


def _is_free(module: str) -> bool:
    return module == FREE or module.startswith(f"{FREE}.")


def _imports(tree: ast.AST) -> Iterator[str]:
    """
    What of ours a module imports, in functions and under TYPE_CHECKING as well.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module, names, level):
                assert level == 0, f"line {node.lineno}: imports are absolute"
                # What is imported from a package may be a module or one of its names.
                dotted = [f"{module}.{alias.name}" for alias in names]
                found = [name if name in MODULES else str(module) for name in dotted]
            case _:
                continue
        yield from (name for name in found if name.partition(".")[0] == "dcounter")


GRAPH = {name: sorted(set(_imports(ast.parse(path.read_text("utf-8"))))) for name, path in MODULES.items()}


def test_there_is_something_to_look_at() -> None:
    assert set(MODULES) >= {"dcounter", "dcounter.wire", "dcounter.ledger"}
    assert "dcounter.position" in GRAPH["dcounter.wire"]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_to_the_same_or_a_lower_floor(module: str) -> None:
    assert set(GRAPH[module]) <= set(MODULES)
    if _is_free(module):
        return
    assert not any(map(_is_free, GRAPH[module]))
    above = {name for name in GRAPH[module] if _floor(name) > _floor(module)}
    assert not above


def test_imports_never_go_in_a_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])), pytrace=False)


@pytest.mark.parametrize("module", PURE)
def test_pure_floors_do_not_import_twisted(module: str) -> None:
    code = f"import sys, {module}; assert '{module}' in sys.modules; assert 'twisted' not in sys.modules"

    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

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

# A new package gets its floor here first, and so does a module beside them. The package itself holds a
# version and nothing else.
FLOORS = {
    "dcounter": 0,
    "dcounter.errors": 0,
    "dcounter.limits": 0,
    "dcounter.store": 0,
    "dcounter.protocol": 0,
    "dcounter.ledger": 0,
    "dcounter.journal": 1,
    "dcounter.links": 1,
    "dcounter.node": 2,
    "dcounter.coordinator": 2,
    "dcounter.engines": 2,
    "dcounter.http": 2,
    "dcounter.client": 2,
    "dcounter.daemon": 3,
    "dcounter.tap": 4,
    "dcounter.cli": 4,
}
# What a package may use of ours, whatever is below it; it may always use itself.
ONLY = {
    "dcounter.errors": set(),
    "dcounter.limits": set(),
    "dcounter.store": set(),
    "dcounter.protocol": {"dcounter.errors"},
    "dcounter.ledger": {"dcounter.errors", "dcounter.limits"},
    "dcounter.journal": {"dcounter.errors", "dcounter.limits"},
    "dcounter.engines": {"dcounter.errors", "dcounter.limits", "dcounter.store"},
    "dcounter.http": {"dcounter.errors", "dcounter.limits", "dcounter.store"},
}
NEVER = {
    "dcounter.links": {"dcounter.journal", "dcounter.ledger"},
    "dcounter.node": {"dcounter.coordinator", "dcounter.http"},
    "dcounter.coordinator": {"dcounter.node", "dcounter.ledger", "dcounter.journal", "dcounter.http"},
}
# Only the wiring knows which engines there are.
KNOW_ENGINES = {"dcounter.daemon"}
# Packages and modules that know nothing of Twisted.
PURE_ROOMS = {"dcounter.errors", "dcounter.limits", "dcounter.store", "dcounter.protocol", "dcounter.ledger"}
PURE_MODULES = [
    "dcounter.coordinator.clock_watch",
    "dcounter.coordinator.counts",
    "dcounter.coordinator.dispatch",
    "dcounter.coordinator.lost_runs",
    "dcounter.coordinator.reads",
    "dcounter.coordinator.requests",
    "dcounter.coordinator.slices",
    "dcounter.coordinator.stamping",
    "dcounter.coordinator.view",
    "dcounter.coordinator.windows",
    "dcounter.daemon.account",
    "dcounter.daemon.rebuild",
    "dcounter.daemon.remedies",
    "dcounter.http.items",
    "dcounter.journal.framing",
    "dcounter.links.throttle",
    "dcounter.node.answers",
    "dcounter.node.backlog",
    "dcounter.node.catch_up",
    "dcounter.node.channels",
    "dcounter.node.contents",
    "dcounter.node.durability",
    "dcounter.node.effects",
    "dcounter.node.empty_journal",
    "dcounter.node.folding",
    "dcounter.node.following",
    "dcounter.node.holders",
    "dcounter.node.ledger_copies",
    "dcounter.node.members",
    "dcounter.node.own_batches",
    "dcounter.node.own_run",
    "dcounter.node.progress",
    "dcounter.node.replica",
    "dcounter.node.restoring",
    "dcounter.node.runs",
    "dcounter.node.status",
    "dcounter.node.waits",
]
# It builds whole clusters for tests: it may import what it likes, nobody but tests imports it.
FREE = "dcounter.testing"


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _room(module: str) -> str:
    """
    What has a floor: the package that a module is in, or the module itself.
    """
    room = ".".join(module.split(".")[:2])
    assert room in FLOORS or room == FREE, f"give {room} a floor in the table above"
    return room


PURE = [name for name in MODULES if name in PURE_MODULES or _room(name) in PURE_ROOMS]


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
    assert set(MODULES) >= {"dcounter", "dcounter.protocol.messages", "dcounter.ledger.ledger"}
    assert "dcounter.protocol.position" in GRAPH["dcounter.protocol.messages"]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_to_the_same_or_a_lower_floor(module: str) -> None:
    assert set(GRAPH[module]) <= set(MODULES)
    if _room(module) == FREE:
        return
    assert FREE not in map(_room, GRAPH[module])
    assert not {name for name in GRAPH[module] if FLOORS[_room(name)] > FLOORS[_room(module)]}


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) != FREE])
def test_no_package_reaches_where_it_never_may(module: str) -> None:
    room = _room(module)
    others = {_room(name) for name in GRAPH[module]} - {room, "dcounter"}
    assert not others & NEVER.get(room, set())
    assert others <= ONLY.get(room, others)
    assert "dcounter.engines" not in others or room in KNOW_ENGINES


def _indirectly(room: str) -> set[str]:
    """
    All packages that one reaches, by whatever way.
    """
    reached: set[str] = set()
    ahead = [name for name in MODULES if _room(name) == room]
    while ahead:
        for name in GRAPH[ahead.pop()]:
            if name not in reached:
                reached.add(name)
                ahead.append(name)
    return {_room(name) for name in reached}


def test_http_reaches_nothing_that_stores() -> None:
    kept = {"coordinator", "links", "node", "journal", "ledger"}
    assert not _indirectly("dcounter.http") & {f"dcounter.{name}" for name in kept}


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


LINES = 500
METHODS = 40


@pytest.mark.parametrize("module", MODULES)
def test_no_module_and_no_class_has_too_much_to_do(module: str) -> None:
    source = MODULES[module].read_text("utf-8")
    assert len(source.splitlines()) <= LINES
    for each in ast.walk(ast.parse(source)):
        if isinstance(each, ast.ClassDef):
            methods = [part for part in each.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            assert len(methods) <= METHODS, each.name

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
    "dcounter.answers": 0,
    "dcounter.audits": 0,
    "dcounter.errors": 0,
    "dcounter.events": 0,
    "dcounter.figures": 0,
    "dcounter.limits": 0,
    "dcounter.outlet": 0,
    "dcounter.stamps": 0,
    "dcounter.words": 0,
    "dcounter.zstd": 0,
    "dcounter.erasing": 0,
    "dcounter.compaction_errors": 0,
    "dcounter.store": 0,
    "dcounter.protocol": 0,
    "dcounter.ledger": 0,
    "dcounter.journal": 1,
    "dcounter.links": 1,
    "dcounter.node": 2,
    "dcounter.coordinator": 2,
    "dcounter.engines": 2,
    "dcounter.http": 2,
    "dcounter.load_body": 2,
    "dcounter.client": 2,
    "dcounter.client_answers": 2,
    "dcounter.client_events": 2,
    "dcounter.client_upkeep": 2,
    "dcounter.client_export": 2,
    "dcounter.client_endpoints": 2,
    "dcounter.client_errors": 2,
    "dcounter.client_requests": 2,
    "dcounter.client_bodies": 2,
    "dcounter.client_audits": 2,
    "dcounter.backups": 3,
    "dcounter.daemon": 3,
    "dcounter.tap": 4,
    "dcounter.cli": 4,
}
# What a package may use of ours, whatever is below it; it may always use itself.
ONLY = {
    "dcounter.audits": {"dcounter.errors"},
    "dcounter.errors": {"dcounter.stamps"},
    "dcounter.events": {"dcounter.errors"},
    "dcounter.figures": set(),
    "dcounter.limits": set(),
    "dcounter.stamps": set(),
    "dcounter.words": set(),
    "dcounter.zstd": set(),
    "dcounter.answers": {"dcounter.words"},
    "dcounter.erasing": {"dcounter.errors", "dcounter.words"},
    "dcounter.compaction_errors": {"dcounter.errors", "dcounter.stamps"},
    "dcounter.store": {
        "dcounter.answers",
        "dcounter.audits",
        "dcounter.erasing",
        "dcounter.errors",
        "dcounter.events",
        "dcounter.words",
    },
    "dcounter.protocol": {"dcounter.errors", "dcounter.figures"},
    "dcounter.ledger": {"dcounter.errors", "dcounter.limits"},
    "dcounter.journal": {"dcounter.errors", "dcounter.figures", "dcounter.limits"},
    "dcounter.engines": {
        *("dcounter.audits", "dcounter.errors", "dcounter.events"),
        *("dcounter.figures", "dcounter.limits", "dcounter.store"),
    },
    "dcounter.http": {
        "dcounter.audits",
        "dcounter.compaction_errors",
        "dcounter.errors",
        "dcounter.events",
        "dcounter.figures",
        "dcounter.limits",
        "dcounter.outlet",
        "dcounter.stamps",
        "dcounter.store",
        "dcounter.zstd",
    },
}
NEVER = {
    "dcounter.http": {
        "dcounter.coordinator",
        "dcounter.links",
        "dcounter.node",
        "dcounter.journal",
        "dcounter.ledger",
    },
    "dcounter.links": {"dcounter.journal", "dcounter.ledger"},
    "dcounter.node": {"dcounter.coordinator", "dcounter.http"},
    "dcounter.coordinator": {"dcounter.node", "dcounter.ledger", "dcounter.journal", "dcounter.http"},
}
# Only the wiring knows which engines there are.
KNOWS_ENGINES = "dcounter.daemon.wiring"
# Packages and modules that know nothing of Twisted.
PURE_ROOMS = {
    "dcounter.audits",
    "dcounter.backups",
    "dcounter.errors",
    "dcounter.events",
    "dcounter.figures",
    "dcounter.limits",
    "dcounter.stamps",
    "dcounter.store",
    "dcounter.zstd",
    "dcounter.protocol",
    "dcounter.ledger",
}
PURE_MODULES = [
    "dcounter.daemon.account",
    "dcounter.daemon.rebuild",
    "dcounter.daemon.remedies",
    "dcounter.http.answer_bodies",
    "dcounter.http.audit_bodies",
    "dcounter.http.auth",
    "dcounter.http.bodies",
    "dcounter.http.decoding",
    "dcounter.http.descriptions",
    "dcounter.http.docs_style",
    "dcounter.http.exposition",
    "dcounter.http.figures",
    "dcounter.http.item_fields",
    "dcounter.http.items",
    "dcounter.http.limits",
    "dcounter.http.lines",
    "dcounter.http.paths",
    "dcounter.http.problems",
    "dcounter.http.rates",
    "dcounter.http.reader",
    "dcounter.http.sending",
    "dcounter.http.tracing",
    "dcounter.journal.disk",
    "dcounter.journal.figures",
    "dcounter.journal.framing",
    "dcounter.journal.locks",
    "dcounter.links.throttle",
]
# In these rooms all modules are pure but those that carry out what the pure ones decide.
SHELLS = {
    "dcounter.node": {"incoming", "listener", "service", "streams"},
    "dcounter.coordinator": {
        *(
            "acks",
            "asking",
            "audited_nodes",
            "audits",
            "compacting",
            "erasing",
            "exports",
            "inquiries",
            "removal",
            "scraping",
        ),
        "service",
        "watches",
    },
}
# What comes from outside is passed in: these alone may take it from where it is.
OUTSIDE = {"dcounter.cli", "dcounter.daemon", "dcounter.tap", "dcounter.testing"}
FROM_OUTSIDE = {"time", "random", "secrets", "twisted.internet.reactor", "os.environ"}
# It waits for a lock that is held by a process of before, when no reactor runs yet.
WAITS_BY_ITSELF = "dcounter.journal.locks"
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


def _is_pure(module: str) -> bool:
    room = _room(module)
    return (
        module in PURE_MODULES
        or room in PURE_ROOMS
        or (room in SHELLS and module.removeprefix(f"{room}.") not in SHELLS[room])
    )


PURE = [name for name in MODULES if _is_pure(name)]


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
    engines = {name for name in GRAPH[module] if _room(name) == "dcounter.engines"}
    # Not even one engine knows another.
    assert not engines - {room} or module == KNOWS_ENGINES


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


@pytest.mark.parametrize("room", NEVER)
def test_no_package_reaches_where_it_never_may_by_way_of_others(room: str) -> None:
    assert not _indirectly(room) & NEVER[room]


def _names(tree: ast.AST) -> Iterator[str]:
    """
    What a module imports, and attributes of modules that it uses, dotted.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names):
                yield str(module)
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Attribute(ast.Name(name), attribute):
                yield f"{name}.{attribute}"
            case _:
                pass


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) not in OUTSIDE])
def test_what_comes_from_outside_is_passed_in(module: str) -> None:
    taken = FROM_OUTSIDE & set(_names(ast.parse(MODULES[module].read_text("utf-8"))))
    assert taken <= ({"time"} if module == WAITS_BY_ITSELF else set())


def test_the_rules_name_what_there_is() -> None:
    rooms = {_room(name) for name in MODULES}
    assert {*PURE_MODULES, KNOWS_ENGINES, WAITS_BY_ITSELF} <= set(MODULES)
    assert {f"{room}.{name}" for room, names in SHELLS.items() for name in names} <= set(MODULES)
    assert {*NEVER, *SHELLS, *OUTSIDE} <= rooms


def test_no_module_reaches_the_tests() -> None:
    for path in MODULES.values():
        assert not [name for name in _names(ast.parse(path.read_text("utf-8"))) if name.startswith("tests")]


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

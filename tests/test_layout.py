"""The house keeps its shape: imports run one way, files stay small and say what they are for."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("assets", "envs", "agents", "training", "evaluation")
TOP = ("doctor", "command_line", "quickstudy")  # the command line: it may import every floor
FILES = sorted(file for floor in FLOORS for file in (ROOT / floor).rglob("*.py")) + [
    ROOT / f"{name}.py" for name in TOP
]
MAX_LINES = 400
REGISTERED = re.compile(r"[a-z_.]+:[A-Za-z_0-9]+")  # "module:Class", as the registries name what they import later


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imported(file: Path, *, for_types: bool = True) -> set[str]:
    """Modules of this repository that a file imports, anywhere in it, as full names.

    for_types: count imports under `if TYPE_CHECKING:` too. Those never run, so they cannot make a cycle.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if not for_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}:{node.lineno} imports relatively; write the full name"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and REGISTERED.fullmatch(node.value):
            names.add(node.value.partition(":")[0])
    return names & set(MODULES)


def floor_of(module: str) -> int:
    head = module.partition(".")[0]
    return len(FLOORS) if head in TOP else FLOORS.index(head)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    above = {name for name in imported(MODULES[module]) if floor_of(name) > floor_of(module)}
    assert not above, f"{module} imports {sorted(above)}, which stands above it"


def test_no_import_cycles() -> None:
    graph = {module: imported(file, for_types=False) - {module} for module, file in MODULES.items()}
    for package in FLOORS:  # importing a submodule does not import what its package's __init__ re-exports
        graph[package] = {name for name in graph[package] if not name.startswith(f"{package}.")}
    while free := {module for module, needs in graph.items() if not needs & set(graph)}:
        graph = {module: needs for module, needs in graph.items() if module not in free}
    assert not graph, f"these files import each other in a circle: {sorted(graph)}"


@pytest.mark.parametrize("module", MODULES)
def test_small_files_that_say_what_they_are(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines: it holds more than one idea"
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"


def test_every_folder_says_what_it_is() -> None:
    for floor in FLOORS:
        assert ast.get_docstring(ast.parse((ROOT / floor / "__init__.py").read_text(encoding="utf-8"))), floor


def test_no_names_without_an_idea() -> None:
    vague = {"utils", "util", "common", "helpers", "misc", "base"}
    found = [module for module in MODULES if vague & set(module.split("."))]
    assert not found


def test_tests_are_not_imported() -> None:
    for module, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        heads = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        assert "tests" not in heads, module

"""The layout of the code: which way features import each other, and what may stand where.

Import-linter checks the rooms (pyproject.toml).
"""

import ast
import gc
from collections.abc import Iterator, Set
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from headrace_workers.wiring.features import FEATURES

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "workers" / "headrace_workers"
_FEATURES = "headrace_workers.features."

# A feature may import those to the right of it. One that no other imports need not stand here, and may import all.
_ORDER = (
    "datasets",
    "reviews",
    "applications",
    "evals",
    "judging",
    "batches",
    "jobs",
    "moderation",
    "quality",
    "decisions",
    "cache",
    "knowledge",
    "webhooks",
    "spend",
    "access",
    "generation",
    "providers",
    "files",
)
_MOST_LINES = 700


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        parts = path.relative_to(_PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def _nodes(path: Path) -> list[ast.AST]:
    gc.disable()  # else it looks again and again through the trees of the files before
    try:
        return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    finally:
        gc.enable()


@cache
def _imported(path: Path, *, for_types: bool = True) -> set[str]:
    """The modules that a file imports, by their dotted names; packages where a name may be a module of theirs. Not
    those that it imports only for annotations, where not `for_types`.
    """
    found: set[str] = set()
    left_out: set[ast.AST] = set()
    for node in _nodes(path):
        if not for_types and isinstance(node, ast.If) and _is_named(node.test, {"TYPE_CHECKING"}):
            left_out |= set(node.body)
        elif node in left_out:
            continue
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            module = _PACKAGE.parent / node.module.replace(".", "/")
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if module.is_dir() else {node.module}
    return found


def _feature(module: str) -> str:
    return module.removeprefix(_FEATURES).partition(".")[0] if module.startswith(_FEATURES) else ""


def _owner(module: str) -> str:
    """Return what owns the tables of a module: a feature, or the store of files; none where the core does."""
    return "files (store)" if module.startswith("headrace_workers.files.") else _feature(module)


def _tables(path: Path) -> set[str]:
    """Return the names of the tables that a module adds to the metadata of the ledger."""
    found: set[str] = set()
    for node in _nodes(path):
        call = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(call, ast.Call) and _is_named(call.func, {"Table"}) and "METADATA" in map(ast.unparse, call.args):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _uses(path: Path) -> set[str]:
    """Return the dotted names that a file imports, or reads from a module that it imports."""
    names: dict[str, str] = {}
    for node in _nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    read = (node for node in _nodes(path) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return {*names.values(), *(f"{names[node.value.id]}.{node.attr}" for node in read if node.value.id in names)}


def _is_named(expression: ast.expr, names: Set[str]) -> bool:
    return isinstance(expression, ast.Name) and expression.id in names


def _is_store(module: str) -> bool:
    return not {"store", "hooks", "feature"}.isdisjoint(module.split("."))


def test_features_import_features_in_one_direction_only() -> None:
    place = {name: number for number, name in enumerate(_ORDER)}
    found = set()
    for module, path in _modules():
        if not (importer := _feature(module)):
            continue
        for imported in _imported(path):
            other = _feature(imported)
            if other not in ("", importer) and place.get(importer, -1) >= place.get(other, -1):
                found.add(f"{module.removeprefix(_FEATURES)} -> {imported.removeprefix(_FEATURES)}")
    assert found == set()


@pytest.mark.parametrize("room", ["cli", "core", "http", "runtime", "wiring"])
def test_no_room_imports_itself_in_a_circle(room: str) -> None:
    modules = {name: path for name, path in _modules() if name.startswith(f"headrace_workers.{room}.")}
    graph = {name: _imported(path, for_types=False) & modules.keys() for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_only_the_store_of_an_owner_imports_its_tables() -> None:
    tables = {f"{module}.{name}" for module, path in _modules() if _owner(module) for name in _tables(path)}
    assert tables
    found = set()
    for module, path in _modules():
        for table in tables & _uses(path):
            if not (_owner(module) == _owner(table) and _is_store(module)):
                found.add(f"{module} -> {table}")
    assert found == set()


def test_the_product_imports_nothing_that_its_wheel_lacks() -> None:
    imports = {(module, name) for module, path in _modules() for name in _imported(path)}
    found = [(module, name) for module, name in imports if name.partition(".")[0] in {"tools", "tests", "bench"}]
    assert found == []


def test_every_feature_has_its_value() -> None:
    """A folder under `features/` without a value in `FEATURES` would add nothing."""
    folders = {path.name for path in (_PACKAGE / "features").iterdir() if (path / "__init__.py").is_file()}
    assert {feature.name for feature in FEATURES} == folders >= set(_ORDER)


def test_no_module_has_more_than_700_lines() -> None:
    long = {module: count for module, path in _modules() if (count := path.read_text().count("\n")) > _MOST_LINES}
    assert long == {}

"""The layout of the code: which way features import each other, and what may stand where.

Import-linter checks the rooms (pyproject.toml).
"""

import ast
import gc
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

from headrace_workers.wiring.features import FEATURES

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "workers" / "headrace_workers"
_PACKAGES = (_PACKAGE, _ROOT / "schemas" / "headrace_schemas", _ROOT / "producers" / "headrace_producers")
_FEATURES = "headrace_workers.features."

# A feature may import those to the right of it. One that no other imports need not stand here, and may import all.
_ORDER = (
    "datasets",
    "evals",
    "judging",
    "batches",
    "jobs",
    "moderation",
    "quality",
    "cache",
    "knowledge",
    "webhooks",
    "spend",
    "access",
    "generation",
    "providers",
    "files",
)
# The names that files of features share: each means the same in every feature.
_FEATURE_FILES = frozenset(
    {
        "admission", "api", "commands", "duty", "events", "feature", "hooks", "metrics", "parts", "service", "settings",
        "stage", "status", "step", "store", "tables", "views",
    }
)  # fmt: skip
# Rooms of one feature in which the same resource has the same name, such as `api/batches.py` and `store/batches.py`.
_ROOMS = ("api", "commands", "openai", "store")
# Short modules with one importer, and why each is a module of its own.
_SHORT = {
    "cli.doctor": "a command",
    "core.ledger.duties": "the SQL of one table",
    "core.sql.patience": "an adapter of psycopg",
    "features.cache.guards.antonyms": "one guard a file",
    "features.cache.guards.dates": "one guard a file",
    "features.cache.guards.literals": "one guard a file",
    "features.cache.guards.names": "one guard a file",
    "features.cache.guards.units_of_measure": "one guard a file",
    "features.generation.engines.choice_probabilities": "pure, beside an adapter of a heavy library",
    "features.judging.language": "an adapter of py3langid",
    "features.judging.rouge": "a published measure",
    "http.home_route": "the routes of one page",
    "features.knowledge.rerankers.load_reranker": "loads a heavy library only by its name",
    "runtime.health.container_check": "loads next to nothing, which its importer must not either",
    "features.moderation.policy_news": "a thread of workers",
    "features.quality.tenant_pass_rates": "pure, beside a duty that reads and writes",
    "runtime.bridge.cluster": "a check that a bridge makes before it reads",
    "runtime.worker.cancellation_watch": "a thread of workers",
}
_MOST_LINES = 500
_LEAST_LINES = 40  # of a module that only one other imports
_SHORTEST_TEXT = 30  # characters of an error text that tell it from others


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
def _imported(path: Path) -> set[str]:
    """The modules that a file imports, by their dotted names; packages where a name may be a module of theirs."""
    found: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            module = _PACKAGE.parent / node.module.replace(".", "/")
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if module.is_dir() else {node.module}
    return found


def _feature(module: str) -> str:
    return module.removeprefix(_FEATURES).partition(".")[0] if module.startswith(_FEATURES) else ""


def _declares_tables(path: Path) -> bool:
    """Return True if a module adds tables to the metadata of the ledger."""
    calls = (node for node in _nodes(path) if isinstance(node, ast.Call) and _is_named(node.func, {"Table"}))
    return any("METADATA" in map(ast.unparse, call.args) for call in calls)


def _is_named(expression: ast.expr, names: Set[str]) -> bool:
    return isinstance(expression, ast.Name) and expression.id in names


def _is_store(module: str) -> bool:
    return not {"store", "hooks"}.isdisjoint(module.split("."))


def _errors(paths: list[Path]) -> set[str]:
    """Return the names of all classes of exceptions that these files define, and of their bases."""
    bases: dict[str, set[str]] = {}
    for path in paths:
        for node in _nodes(path):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(ast.unparse(base) for base in node.bases)
    found = {"HeadraceError", "Exception", "ValueError", "RuntimeError", "LookupError", "TypeError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def _error_texts(path: Path, errors: set[str]) -> Iterator[str]:
    """Return the texts in `raise` statements and in calls of errors; of f-strings, each part between the values."""
    for node in _nodes(path):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _is_named(node.func, errors)):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def test_features_import_features_in_one_direction_only() -> None:
    """The graph of features has no circle."""
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


def test_only_the_store_of_a_feature_imports_its_tables() -> None:
    """Only a feature's own store and its hooks read and write its tables: everything else calls the store's methods."""
    tables = {module for module, path in _modules() if _feature(module) and _declares_tables(path)}
    found = set()
    for module, path in _modules():
        for imported in _imported(path):
            owner = next((table for table in tables if imported == table or imported.startswith(f"{table}.")), None)
            if owner is not None and not (_feature(module) == _feature(owner) and _is_store(module)):
                found.add(f"{module} -> {owner}")
    assert found == set()


def test_every_feature_has_its_value() -> None:
    """A folder under `features/` without a value in `FEATURES` would add nothing."""
    folders = {path.name for path in (_PACKAGE / "features").iterdir() if (path / "__init__.py").is_file()}
    assert {feature.name for feature in FEATURES} == folders >= set(_ORDER)


def test_no_module_is_longer_than_one_idea() -> None:
    """A file of more lines is two ideas. A migration is written once, and read by nobody who looks for one."""
    modules = ((module, path) for module, path in _modules() if "migrations" not in path.parts)
    long = {module: count for module, path in modules if (count := path.read_text().count("\n")) > _MOST_LINES}
    assert long == {}


def test_a_short_module_with_one_importer_has_a_reason() -> None:
    """A short module that one other imports is a function of that module, unless it has a reason to stand alone."""
    modules = {
        module: path for module, path in _modules() if path.stem != "__init__" and "migrations" not in path.parts
    }
    importers: dict[str, set[str]] = {}
    for module, path in _modules():
        for imported in _imported(path):
            name = imported if imported in modules else imported.rpartition(".")[0]
            importers.setdefault(name, set()).add(module)
    found = set()
    for module, path in modules.items():
        of = importers.get(module, set())
        is_part = bool(_feature(module)) and (
            path.stem in _FEATURE_FILES or any(each.endswith(".feature") for each in of)
        )
        if len(of) == 1 and not is_part and path.read_text().count("\n") < _LEAST_LINES:
            found.add(module.removeprefix("headrace_workers."))
    assert found - set(_SHORT) == set()
    assert {f"headrace_workers.{module}" for module in _SHORT} <= set(modules)


def test_a_basename_means_one_thing() -> None:
    """Modules have the same name only if they are about the same thing, such as `api/keys.py` and `store/keys.py`."""
    found: dict[str, set[str]] = {}
    for module, path in _modules():
        if path.stem in {"__init__", *_FEATURE_FILES} or "migrations" in path.parts:
            continue
        place = module.removeprefix("headrace_workers.").split(".")
        subject = [part for part in place if part not in _ROOMS] if _feature(module) else place
        found.setdefault(path.stem, set()).add(".".join(subject))
    assert {name: subjects for name, subjects in found.items() if len(subjects) > 1} == {}


def test_each_error_text_stands_once() -> None:
    """Two modules with the same error share a function or a constant, so that their texts cannot drift apart."""
    paths = [path for package in _PACKAGES for path in sorted(package.rglob("*.py"))]
    errors = _errors(paths)
    found: dict[str, set[str]] = {}
    for path in paths:
        for text in _error_texts(path, errors):
            if len(text) >= _SHORTEST_TEXT:
                found.setdefault(text, set()).add(str(path.relative_to(_ROOT)))
    assert {text: modules for text, modules in found.items() if len(modules) > 1} == {}

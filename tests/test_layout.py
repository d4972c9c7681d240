"""The layout of the code: which way features import each other, and what may stand where.

The exceptions that are listed here are still to be cut. A test fails when one is added, and when one that is gone is
still listed, so that the list only shrinks. Import-linter checks the rooms (pyproject.toml).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from headrace_workers.wiring.features import FEATURES

_PACKAGE = Path(__file__).parents[1] / "workers" / "headrace_workers"
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
    "access",
    "generation",
)
_EXCEPTIONS = frozenset({"knowledge.api.vector_stores -> batches.store.stored"})
_MOST_LINES = 500


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        parts = path.relative_to(_PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imported(path: Path) -> set[str]:
    """The modules that a file imports, by their dotted names; packages where a name may be a module of theirs."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            module = _PACKAGE.parent / node.module.replace(".", "/")
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if module.is_dir() else {node.module}
    return found


def _feature(module: str) -> str:
    return module.removeprefix(_FEATURES).partition(".")[0] if module.startswith(_FEATURES) else ""


def test_features_import_features_in_one_direction_only() -> None:
    """The graph of features has no circle, but for the imports that are still to be cut."""
    place = {name: number for number, name in enumerate(_ORDER)}
    found = set()
    for module, path in _modules():
        if not (importer := _feature(module)):
            continue
        for imported in _imported(path):
            other = _feature(imported)
            if other not in ("", importer) and place.get(importer, -1) >= place.get(other, -1):
                found.add(f"{module.removeprefix(_FEATURES)} -> {imported.removeprefix(_FEATURES)}")
    assert found == _EXCEPTIONS


def test_every_feature_has_its_value() -> None:
    """A folder under `features/` without a value in `FEATURES` would add nothing."""
    folders = {path.name for path in (_PACKAGE / "features").iterdir() if (path / "__init__.py").is_file()}
    assert {feature.name for feature in FEATURES} == folders >= set(_ORDER)


def test_no_module_is_longer_than_one_idea() -> None:
    """A file of more lines is two ideas. A migration is written once, and read by nobody who looks for one."""
    modules = ((module, path) for module, path in _modules() if "migrations" not in path.parts)
    long = {module: count for module, path in modules if (count := path.read_text().count("\n")) > _MOST_LINES}
    assert long == {}

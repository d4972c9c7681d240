"""Weigh what each extra of headrace installs: the tables of docs/reference/install.md.

Run `python -m tools.package_sizes` in an environment that has the extras, from the repository's root. An extra with a
package that is not installed is named and left out. Bytecode is not counted: Python writes it when a module is first
imported.
"""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_INSTALLED = {canonicalize_name(item.metadata["Name"]): item for item in distributions()}
_HEAVY = 10_000_000  # bytes of a package that has a row of its own


def packages(requirements: list[str]) -> dict[str, str]:
    """Return the packages that requirements bring, each with the package that asks for it first.

    Raise LookupError for one that is not installed.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(text), frozenset[str](), "headrace") for text in requirements]
    while waiting:
        wanted, extras, asks = waiting.pop(0)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        name, own = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, own) in seen:
            continue
        seen.add((name, own))
        if name not in _INSTALLED:
            raise LookupError(name)
        found.setdefault(name, asks)
        waiting += [(Requirement(text), own, name) for text in _INSTALLED[name].requires or []]
    return found


def size(distribution: Distribution) -> int:
    """Return the bytes of a package's files, without bytecode."""
    paths = (Path(str(file.locate())) for file in distribution.files or [] if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())


def requirements(optional: dict[str, list[str]], extra: str) -> Iterator[str]:
    """Yield the requirements of an extra, and of extras that it names."""
    for text in optional[extra]:
        if own := re.fullmatch(r"headrace\[(.+)\]", text):
            yield from requirements(optional, own[1])
        else:
            yield text


def main() -> None:
    """Print both tables."""
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    brought: dict[str, str] = {}
    print("| extra | packages | MB |\n|---|---|---|")
    optional = project["optional-dependencies"]
    for extra in ("", *optional):
        more = list(requirements(optional, extra)) if extra else []
        try:
            found = packages([*project["dependencies"], *more])
        except LookupError as missing:
            print(f"| `{extra}` | not weighed: {missing} is not installed | |")
            continue
        brought |= found
        print(
            f"| `{extra or 'headrace'}` | {len(found)} | {_megabytes(sum(size(_INSTALLED[item]) for item in found))} |"
        )
    print("\n| package | MB | asked for by |\n|---|---|---|")
    sizes = {name: size(_INSTALLED[name]) for name in brought}
    for name in sorted(brought, key=lambda each: -sizes[each]):
        if sizes[name] >= _HEAVY:
            print(f"| {name} | {_megabytes(sizes[name])} | {brought[name]} |")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"


if __name__ == "__main__":
    main()

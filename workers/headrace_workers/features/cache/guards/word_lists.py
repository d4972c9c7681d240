"""Lists of words: short ones stand in the code, long ones as text beside it."""

from importlib.resources import files


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, separated by white space."""
    return frozenset(text.split())


def lines_of(name: str, package: str = "headrace_workers.features.cache.guards") -> list[str]:
    """Return the lines of a package's `lists/NAME.txt`, without empty lines and comments (#)."""
    text = files(package).joinpath("lists", f"{name}.txt").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]

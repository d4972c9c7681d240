"""Parameters that are true or false."""

from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import wrong


def flag(asked: Body, name: str, *, default: bool = False, within: str = "") -> bool:
    """Return the flag's value. Raise Refused unless it is true or false."""
    value = asked.get(name, default)
    if not isinstance(value, bool):
        raise wrong(f"{within}{name}", "must be true or false")
    return value

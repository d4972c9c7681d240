"""Text of a service's error in one line, for reasons, incidents and logs."""

from headrace_schemas.errors import Unavailable

_LONGEST = 300  # characters


def words(error: BaseException) -> str:
    """Return kind and message of an error, each once, in one line that is never empty; for `Unavailable` the message
    alone.
    """
    name = type(error).__name__
    text = " ".join(str(error).split()).removeprefix(f"{name}: ")  # kafka-python puts the name before it
    if not text or text in ("None", name):
        return name
    return (text if isinstance(error, Unavailable) or name in text else f"{name}: {text}")[:_LONGEST]

"""The limit of a text that an embedder reads whole. Pure."""

from headrace_schemas.errors import InputTooLong


def check_whole(alias: str, tokens: int, most: int) -> None:
    """Raise InputTooLong where a text of so many tokens would be cut."""
    if tokens > most:
        raise InputTooLong(
            f"the input has {tokens} tokens, and {alias} reads {most} at most: send it in parts, a job each"
        )

"""The error for a model whose files on this machine cannot be used."""

from headrace_schemas.errors import ConfigurationError


def broken_model(problem: str) -> ConfigurationError:
    """Return the error for this problem of a model's files, which says how to mend it."""
    return ConfigurationError(f"{problem}; pull or convert the model again")

"""The errors of the optional library sentence-transformers (the extra of that name)."""

from importlib.util import find_spec

from headrace_schemas.errors import ConfigurationError


def check_installed(source: str) -> None:
    """Raise ConfigurationError if the library that the model `source` needs is not installed."""
    if find_spec("sentence_transformers") is None:
        raise ConfigurationError(
            f"sentence-transformers is not installed, which {source} needs: "
            "pip install 'headrace[sentence-transformers]'"
        )


def cannot_load(source: str, error: Exception) -> ConfigurationError:
    """Return the error for a model that the library cannot load."""
    return ConfigurationError(
        f"sentence-transformers cannot load {source}: {error}; give the model's folder, or its name on the hub"
    )

"""Options that many commands have, in the same words, and the tenant that they are about."""

from typing import Annotated, Any, Final

import typer
from pydantic import TypeAdapter, ValidationError

from headrace_producers.settings import ProducerSettings
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import Tenant

# Databases cannot count as far as people can type.
_MOST_LISTED: Final = 10_000_000
MOST_TOKENS: Final = 10**14
_SHOWN: Final = 80  # characters of a name that no tenant can have

JsonLinesOption = Annotated[bool, typer.Option("--json", help="print JSON lines")]
OneJsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def limit_option(help: str) -> Any:
    """Return the option `--limit`; `what` says how many of what."""
    return typer.Option("--limit", "-n", min=1, max=_MOST_LISTED, help=help)


def checked_tenant(name: str) -> str:
    """Return the name. Raise ConfigurationError if it is not a valid tenant name."""
    try:
        return str(TypeAdapter(Tenant).validate_python(name))
    except ValidationError:
        raise ConfigurationError(
            f"{name[:_SHOWN]!r} cannot name a tenant: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"
        ) from None


def tenant_meant(name: str | None) -> str:
    """Return the tenant that --tenant names, else HEADRACE_TENANT. Raise ConfigurationError for an invalid name."""
    return checked_tenant(ProducerSettings.from_env().tenant if name is None else name)

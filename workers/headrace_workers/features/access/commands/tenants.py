"""Names of tenants, as the command line is given them."""

from typing import Final

from pydantic import TypeAdapter, ValidationError

from headrace_producers.settings import ProducerSettings
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import Tenant

_SHOWN: Final = 80  # characters of one that is none


def checked_tenant(name: str) -> str:
    """The name. ConfigurationError where no tenant can be called so."""
    try:
        return str(TypeAdapter(Tenant).validate_python(name))
    except ValidationError:
        raise ConfigurationError(
            f"{name[:_SHOWN]!r} cannot name a tenant: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"
        ) from None


def tenant_meant(name: str | None) -> str:
    """The tenant that --tenant names, else HEADRACE_TENANT. ConfigurationError where no tenant can be called so."""
    return checked_tenant(ProducerSettings.from_env().tenant if name is None else name)

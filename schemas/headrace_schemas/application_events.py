"""The event about an application: a label names another version."""

from typing import Annotated

from pydantic import Field

from headrace_schemas.limits import Alias, Label, ShortText, Tenant
from headrace_schemas.model import OutgoingValue
from headrace_schemas.moderation import Count


class ApplicationLabelled(OutgoingValue):
    """A label of an application names another version from now on."""

    tenant: Annotated[
        Tenant | None, Field(description="The tenant whose application it is; absent for one that all tenants share.")
    ] = None
    application: Annotated[Alias, Field(description="The application.")]
    label: Annotated[Label, Field(description="The label, such as `production`.")]
    number: Annotated[Count, Field(description="The version that it names now.")]
    digest: Annotated[ShortText, Field(description="The SHA-256 of that version, in hex.")]
    before: Annotated[Count | None, Field(description="The version that it named before; absent for a new label.")] = (
        None
    )
    who: Annotated[ShortText, Field(description="The person who moved it.")]
    why: Annotated[ShortText | None, Field(description="The reason, where that person gave one.")] = None

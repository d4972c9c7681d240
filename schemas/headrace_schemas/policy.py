"""Events about moderation policies: another policy is in force, or a policy is wrong."""

from typing import Annotated

from pydantic import Field

from headrace_schemas.limits import ShortText, Tenant
from headrace_schemas.model import OutgoingValue


class PolicySwitched(OutgoingValue):
    """Another moderation policy is in force from here on. It is published once, by the first worker that uses it.

    A version is the digest that verdicts have as `policy`.
    """

    tenant: Annotated[
        Tenant | None, Field(description="The tenant; absent for all tenants without a policy of their own.")
    ] = None
    before: Annotated[ShortText, Field(description="The version that was in force before.")]
    version: Annotated[ShortText, Field(description="The version that is in force now.")]


class PolicyRefused(OutgoingValue):
    """A moderation policy is wrong, and changes nothing. It is published once, until the file changes."""

    version: Annotated[ShortText, Field(description="The version that stays in force.")]
    reason: Annotated[ShortText, Field(description="The file, the line and what is wrong there.")]

"""API keys and quotas as everybody sees them, in tables and by `--json`. Pure."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel

from headrace_workers.cli.durations import Moment

if TYPE_CHECKING:  # they load the database
    from headrace_workers.features.access.store.keys import KeyRow
    from headrace_workers.features.access.store.quota_rows import Quota


class ApiKey(BaseModel):
    """A key; never the secret that opens."""

    id: str
    tenant: str
    name: str
    state: Literal["valid", "expired", "revoked"]
    scopes: list[str]
    made_at: Moment
    expires_at: Moment
    revoked_at: Moment

    @classmethod
    def of(cls, row: "KeyRow") -> Self:
        """Return the view of a key."""
        return cls(
            id=row.id,
            tenant=row.tenant,
            name=row.name,
            state="revoked" if row.revoked_at is not None else "valid" if row.valid else "expired",
            scopes=list(row.scopes),
            made_at=row.made_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )


class TokenQuota(BaseModel):
    """The tokens that a tenant may use in a period, and those used and reserved in the present one."""

    tenant: str
    tokens: int
    per: str
    used: int
    reserved: int
    left: int
    ends_at: Moment

    @classmethod
    def of(cls, quota: "Quota") -> Self:
        """Return the view of a quota."""
        return cls(
            tenant=quota.tenant,
            tokens=quota.most,
            per=quota.period,
            used=quota.used,
            reserved=quota.reserved,
            left=quota.left,
            ends_at=quota.ends,
        )

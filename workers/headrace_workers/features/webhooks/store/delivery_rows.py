"""A delivery before it is written: its row, beside that of its unit of work (units.py)."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What one endpoint is to be told. `url` where it is not the endpoint's own."""

    id: str
    endpoint_id: str
    tenant: str
    type: str
    subject: str
    body: bytes
    url: str | None = None

    def row(self, now: int) -> dict[str, Any]:
        """Its row."""
        return {"id": self.id, "endpoint_id": self.endpoint_id, "tenant": self.tenant, "type": self.type,
                "subject": self.subject, "body": self.body, "url": self.url, "created_at": now}  # fmt: skip

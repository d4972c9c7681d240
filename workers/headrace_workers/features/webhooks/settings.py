"""Settings of webhooks."""

from enum import StrEnum
from typing import Annotated, ClassVar

from headrace_workers.core.environment import Variables, parsed, secret, variable
from headrace_workers.features.webhooks.signing import sealing_keys
from headrace_workers.features.webhooks.targets import DEFAULT_PORTS, Network, Reach, networks_of, ports_of

_READ_BY = "bridges, gateways, workers that deliver, and commands"


class HttpUse(StrEnum):
    """Use of http: never, or to this machine's own addresses, for development."""

    NEVER = "never"
    LOOPBACK = "loopback"


def _networks(text: str) -> tuple[Network, ...]:
    return networks_of(text.replace(",", " ").split(), "HEADRACE_WEBHOOK_NETWORKS")


def _ports(text: str) -> frozenset[int]:
    return ports_of(text.replace(",", " ").split(), "HEADRACE_WEBHOOK_PORTS") or DEFAULT_PORTS


class WebhookSettings(Variables):
    """Settings of webhooks."""

    title: ClassVar[str] = "Webhooks"

    webhook_networks: Annotated[tuple[Network, ...], parsed(_networks)] = variable(
        (),
        "Networks that webhooks may go to although they are not the internet's: `10.20.0.0/16,fd12::/32`.",
        read_by=_READ_BY,
    )
    webhook_ports: Annotated[frozenset[int], parsed(_ports)] = variable(
        DEFAULT_PORTS, "Ports of https that webhooks may go to.", read_by=_READ_BY
    )
    webhook_http: HttpUse = variable(
        HttpUse.NEVER,
        "`loopback`: http may go to this machine's own addresses, for development.",
        read_by=_READ_BY,
    )

    @property
    def reach(self) -> Reach:
        """Return the targets that webhooks may go to."""
        return Reach(self.webhook_networks, self.webhook_ports, self.webhook_http is HttpUse.LOOPBACK)


class SealingSettings(Variables):
    """Settings of the key that seals secrets: apart, so that a command which seals nothing need not read it."""

    title: ClassVar[str] = "Secrets of webhooks"

    webhook_key: Annotated[tuple[bytes, ...], parsed(sealing_keys)] = secret(
        (),
        "Seals the secrets of webhooks in the ledger, and makes the marks of "
        "[system prompts](reference/moderation-policy.md#leaks-of-the-system-prompt): 32 bytes as base64; several, "
        "separated by commas, while they change.",
        read_by="bridges, gateways, workers and `headrace webhooks`",
    )

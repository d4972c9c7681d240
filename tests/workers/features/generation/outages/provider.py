"""A provider of models on this machine, which answers as OpenAI's API does, or fails in one of many ways."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services import provider as services
from tests.services.provider import Reply

OK, DOWN, HANG, SLOW, BUSY, BROKEN = "ok", "down", "hang", "slow", "busy", "broken"


class Provider(services.Provider):
    """A server whose answers all have one `fault`."""

    def __init__(self) -> None:
        self.fault, self.text = OK, "far away"
        super().__init__(lambda _provider, reply: self._reply(reply))

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def _reply(self, reply: Reply) -> None:
        if self.fault == DOWN:
            reply.status(503)
        elif self.fault == BROKEN:
            self.fault = OK  # it was broken once
            reply.status(500)
        elif self.fault == BUSY:
            reply.status(429, retry_after="3600")
        elif self.fault == HANG:
            self.over.wait(60)
        else:
            reply.start()
            while self.fault == SLOW and not self.over.wait(0.1):  # a piece now and then, and no end
                reply.text("word ")
            reply.text(self.text)
            reply.end()


@contextmanager
def provider() -> Iterator[Provider]:
    made = Provider()
    try:
        yield made
    finally:
        made.close()


def catalogue(home: Path, models: dict[str, str], chains: dict[str, list[str]] | None = None, **limits: float) -> None:
    """Write a catalogue with these models, each at its endpoint."""
    lines = []
    for alias, url in models.items():
        lines += [f"[models.{alias}]", 'engine = "openai"', 'model = "m"', f'endpoint = "{url}"']
        lines += ["context_length = 8000", *(f"{name} = {value}" for name, value in limits.items())]
    for name, chain in (chains or {}).items():
        lines += [f"[chains.{name}]", f"models = {json.dumps(chain)}"]
    (home / "models.toml").write_text("\n".join(lines) + "\n")

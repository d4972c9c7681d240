"""OpenAI's own client of a gateway, unmodified."""

from typing import Any

from openai import OpenAI
from tests.workers.http.served import Gateway


def openai_of(gateway: Gateway, key: str | None = None, **options: Any) -> OpenAI:
    """A client with this key, else with one of the tenant `default` that may do all."""
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=key or gateway.key(), **options)

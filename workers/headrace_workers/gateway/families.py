"""Two families of paths, by the clients that they are for: OpenAI's, and our own."""

from typing import Final

# What begins so is ours; every other path below /v1 is, or could be, one of OpenAI's.
NATIVE: Final = ("/v1/jobs", "/v1/evaluations", "/v1/usage", "/healthz", "/readyz", "/metrics", "/openapi.json")


def is_native(path: str) -> bool:
    """Whether errors on this path are told in our own shape (RFC 9457)."""
    return not path.startswith("/v1/") or any(path == own or path.startswith(f"{own}/") for own in NATIVE)

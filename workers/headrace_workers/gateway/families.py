"""Two families of paths, by the clients that they are for: OpenAI's, and our own."""

from typing import Final

# What begins so is ours; every other path is, or could be, one of OpenAI's, whose client may have lost its /v1.
NATIVE: Final = ("/v1/jobs", "/v1/evaluations", "/v1/usage", "/healthz", "/readyz", "/metrics", "/openapi.json")


def is_native(path: str) -> bool:
    """Whether errors on this path are told in our own shape (RFC 9457)."""
    return any(path == own or path.startswith(f"{own}/") for own in NATIVE)

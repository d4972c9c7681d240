"""Two families of paths, by the clients that they are for: OpenAI's, and our own."""

from typing import Final

# Paths of headrace begin so; any other path is, or could be, one of OpenAI's, whose client may have lost its /v1.
NATIVE: Final = ("/v1/jobs", "/v1/evaluations", "/v1/usage", "/healthz", "/readyz", "/metrics", "/openapi.json")

# OpenAI's resources that headrace has no counterpart for, by the first part of their paths; what to use instead, if
# there is something.
UNSUPPORTED: Final = {
    "images": "",
    "audio": "",
    "videos": "",
    "realtime": "",
    "live": "",
    "safety": "",
    "content_provenance_checks": "",
    "admin": "`headrace keys` and `headrace quotas` administer tenants",
    "beta": "",
    "fine_tuning": "",
    "assistants": "use POST /v1/responses",
    "threads": "use POST /v1/responses",
    "conversations": "use POST /v1/responses with previous_response_id",
    "containers": "",
    "skills": "",
    "chatkit": "",
    "organization": "`headrace keys` and `headrace quotas` administer tenants",
    "projects": "`headrace keys` and `headrace quotas` administer tenants",
}


def unsupported(path: str) -> str | None:
    """Return what to say of a path of OpenAI's that headrace does not support, with or without its /v1; else None."""
    resource = path.removeprefix("/v1").lstrip("/").partition("/")[0]
    if resource not in UNSUPPORTED:
        return None
    instead = UNSUPPORTED[resource]
    words = f"headrace does not support OpenAI's {resource}"
    return f"{words}: {instead}" if instead else f"{words}; GET /openapi.json tells what there is"


def is_native(path: str) -> bool:
    """Return True if errors on this path have headrace's own shape (RFC 9457)."""
    return any(path == own or path.startswith(f"{own}/") for own in NATIVE)

"""The largest body of each path. A larger one is refused while it comes, so that it is never held in memory."""

from typing import Final

# Paths that take another size than HEADRACE_MAX_BODY, with all below them; the longest that fits counts.
BODY_BYTES: Final[dict[str, int]] = {}
HEAD_BYTES: Final = 32_768  # of the request line and all headers


def body_bound(path: str, usual: int) -> int:
    """Return the bytes that a body on this path may have."""
    fitting = [own for own in BODY_BYTES if path == own or path.startswith(f"{own}/")]
    return BODY_BYTES[max(fitting, key=len)] if fitting else usual

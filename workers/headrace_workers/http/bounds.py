"""How large a body may be, by its path. It is refused while it comes: what is beyond the bound is never held."""

from typing import Final

# Paths that take another size than HEADRACE_MAX_BODY, with all below them; the longest that fits counts.
BODY_BYTES: Final[dict[str, int]] = {}
HEAD_BYTES: Final = 32_768  # of the request line and all headers


def body_bound(path: str, usual: int) -> int:
    """The bytes that a body on this path may have."""
    fitting = [own for own in BODY_BYTES if path == own or path.startswith(f"{own}/")]
    return BODY_BYTES[max(fitting, key=len)] if fitting else usual

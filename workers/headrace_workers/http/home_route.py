"""The page that a browser shows at the gateway's address. It is the same for everybody, and needs no key."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

from fastapi.responses import HTMLResponse

from headrace_workers.http.query import ReadsItsURL

router = ReadsItsURL()

_PAGE: Final = files(__package__).joinpath("home_page.html").read_text(encoding="utf-8")


def _digest_of_style(page: str) -> str:
    """Return the digest by which a content security policy names the page's one style."""
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


_HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_digest_of_style(_PAGE)}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@router.get("/", include_in_schema=False)
async def show() -> HTMLResponse:
    """Return the page that introduces this gateway and links to its documentation."""
    return HTMLResponse(_PAGE, headers=_HEADERS)

"""A hook of MkDocs: links that lead out of `docs/`, to source files, lead to where the source can be read."""

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the page with each link out of `docs/` leading to `extra.source_url`, or as text where there is none."""
    docs = Path(config["docs_dir"]).resolve()
    folder = Path(page.file.abs_src_path).resolve().parent
    source_url = str(config["extra"].get("source_url") or "").rstrip("/")

    def replaced(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]
        if not source_url:
            return link["text"]
        return f"[{link['text']}]({source_url}/{target.relative_to(docs.parent)}{link['anchor'] or ''})"

    return _LINK.sub(replaced, markdown)

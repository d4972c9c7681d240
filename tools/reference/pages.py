"""All generated pages, by their paths in `docs/`: `python -m tools.reference.pages docs`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tools.reference import (
    application_page,
    clients_table,
    command_page,
    event_page,
    http_page,
    metrics_page,
    review_rules_page,
    settings_page,
)

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "configuration.md": settings_page.page,
    "reference/application-file.md": application_page.page,
    "reference/cli.md": command_page.page,
    "reference/events.md": event_page.page,
    "reference/http.md": http_page.page,
    "reference/metrics.md": metrics_page.page,
    "reference/openai.md": clients_table.page,
    "reference/review-rules.md": review_rules_page.page,
}


def write(docs: Path) -> list[Path]:
    """Write all pages into this folder, and return their paths."""
    written = []
    for name, page in PAGES.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        sys.stdout.write(f"{written}\n")

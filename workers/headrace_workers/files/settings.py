"""Settings of files."""

from pathlib import Path
from typing import ClassVar

from headrace_workers.core.environment import MOST_BYTES, Variables, number, variable


class FileSettings(Variables):
    """Settings of files."""

    title: ClassVar[str] = "Files"

    files: str = variable(
        "",
        "Where [files of batches](reference/batches.md#where-files-are-stored) and of "
        "[vector stores](reference/knowledge.md#vector-stores) are stored: a folder, or a URL that fsspec knows, such "
        "as `s3://bucket/folder`. Unset: `files` in `HEADRACE_HOME`.",
        read_by="bridges, gateways, workers that recall, and `headrace batch`",
    )
    max_file_bytes: int = number(
        100_000_000_000,
        "Bytes that files of a tenant and its pending uploads may keep, from which on more are refused (429). What "
        "batches write counts, and is never refused. 0: any number.",
        read_by="bridges, gateways and workers that recall",
        ge=0,
        le=MOST_BYTES,
    )

    def place(self, home: Path) -> str:
        """Return where files lie, for a deployment with this home."""
        return self.files or str(home / "files")

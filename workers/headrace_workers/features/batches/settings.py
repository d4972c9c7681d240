"""Settings of batches and files."""

from pathlib import Path
from typing import ClassVar

from headrace_workers.core.environment import MOST_BYTES, Variables, number, variable

_FILES_READ_BY = "bridges, gateways, workers that recall, and `headrace batch`"


class BatchSettings(Variables):
    """Settings of batches and files."""

    title: ClassVar[str] = "Batches and files"

    files: str = variable(
        "",
        "Where [files of batches](batches.md#where-files-lie) and of "
        "[vector stores](reference/knowledge.md#vector-stores) lie: a folder, or a URL that fsspec knows, such as "
        "`s3://bucket/folder`. Unset: `files` in `HEADRACE_HOME`.",
        read_by=_FILES_READ_BY,
    )
    files_retention: float = number(
        30 * 86_400.0,
        "Seconds that batches are remembered after their end, and their files kept.",
        read_by="bridges, gateways and `headrace batch`",
    )
    batch_window: int = number(
        20_000,
        "Lines of one batch that are under way at a time. All batches together have half of `HEADRACE_MAX_ACTIVE`.",
        read_by="bridges",
    )
    max_file_bytes: int = number(
        100_000_000_000,
        "Bytes that files of a tenant and its pending uploads may keep, from which on more are refused (429). What "
        "batches write counts, and is never refused. 0: any number.",
        read_by="bridges, gateways and workers that recall",
        ge=0,
        le=MOST_BYTES,
    )
    max_uploads: int = number(
        100,
        "Pending uploads of a tenant. 0: any number.",
        read_by="bridges, gateways and workers that recall",
        ge=0,
    )

    def place(self, home: Path) -> str:
        """Return where files lie, for a deployment with this home."""
        return self.files or str(home / "files")

"""Versions of detectors: of headrace, and of the package or data that a detector uses."""

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """Return headrace's version, and that of the package whose patterns or numbers a detector uses: `0.1.0+1.5.0`."""
    return with_part(_version(package))


def with_part(part: str) -> str:
    """Return headrace's version, and `part` for the data or model that a detector uses."""
    return f"{_version('headrace')}+{part}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"

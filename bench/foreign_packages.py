"""Packages that foreign data are read from: downloaded once, checked by their sha256, unpacked and never imported.

Nothing of them is kept in this repository; bench/foreign/README.md says what is read of each, and its licence.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from bench.kept import FOLDER
from headrace_schemas.errors import Unavailable

# A wheel that differs is refused: its figures could not be compared. None: wheels of platforms have the same data.
WHEELS: Final = {
    "chatterbot-corpus==1.2.2": "de6a3cf16fcc735f82e459e5e9436fdedd8b996198c4ad06d2c9db58363d4126",
    "contradish==1.34.0": "1246385f9c8ad00dd22f2e6da78e72d85451b32427f4b6f5646f8d18f4ae3826",
    "gensim==4.4.0": None,
    "scikit-learn==1.9.1": None,
}


def wheel(name: str) -> Path:
    """The folder of an unpacked wheel. Unavailable where it cannot be had, or is another."""
    inside = FOLDER / name.replace("==", "-")
    if inside.is_dir():
        return inside
    with tempfile.TemporaryDirectory(prefix="headrace-bench-foreign-") as folder:
        _call([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--dest", folder, name], name)  # fmt: skip
        (archive,) = Path(folder).glob("*.whl")
        wanted, found = WHEELS[name], hashlib.sha256(archive.read_bytes()).hexdigest()
        if wanted is not None and wanted != found:
            raise Unavailable(f"{name} is another wheel than the figures were measured on: its sha256 is {found}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="foreign-", dir=inside.parent))
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(draft, [text for text in packed.namelist() if not text.endswith((".py", ".so"))])
        draft.replace(inside)
    return inside


def debian(name: str, home: str) -> Path:
    """The folder `home` of a Debian package: where it is installed, else unpacked beside the vectors. Unavailable
    without either.
    """
    if Path(home).exists():
        return Path(home)
    unpacked = FOLDER / name
    inside = unpacked / Path(home).relative_to("/")
    if inside.exists():
        return inside
    with tempfile.TemporaryDirectory(prefix="headrace-bench-foreign-") as folder:
        _call(["apt-get", "download", name], name, folder)
        (archive,) = Path(folder).glob("*.deb")
        unpacked.mkdir(parents=True, exist_ok=True)
        _call(["dpkg-deb", "--extract", str(archive), str(unpacked.resolve())], name)
    if not inside.exists():
        raise Unavailable(f"{name} holds no {home}")
    return inside


def _call(command: list[str], name: str, folder: str | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(f"{name} cannot be had: {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise Unavailable(f"{name} cannot be had: {done.stderr.strip()[-300:]}")

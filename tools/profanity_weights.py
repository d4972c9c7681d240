"""Export the weights of alt-profanity-check into the file that the profanity detector reads: `make profanity-weights`.

The package keeps them as pickles of scikit-learn's classes. Reading those needs scikit-learn and SciPy (200 MB), and
runs code that is in the file. The export is compressed JSON, and holds the numbers bit for bit.
"""

import gzip
import hashlib
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = "alt-profanity-check"
TARGET: Final = Path(__file__).parents[1] / "workers/headrace_workers/features/moderation/profanity_weights.json.gz"


def weights() -> dict[str, Any]:
    """Return the content of the file, from the installed package."""
    from profanity_check import profanity_check as package  # loads its two files when imported

    vectorizer, parts = package.vectorizer, package.model.calibrated_classifiers_
    return {
        "source": {
            "package": PACKAGE,
            "version": version(PACKAGE),
            "url": "https://github.com/dimitrismistriotis/alt-profanity-check",
            "license": "MIT",
            "copyright": "2018 Victor Zhou, 2021 Menelaos Kotoglou, and Dimitrios Mistriotis",
            "sha256": {name: _sha256(name) for name in ("model.joblib", "vectorizer.joblib")},
        },
        "words": sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__),
        "idf": vectorizer.idf_.tolist(),
        "classifiers": [
            {
                "coefficients": part.estimator.coef_[0].tolist(),
                "intercept": float(part.estimator.intercept_[0]),
                "slope": float(part.calibrators[0].a_),
                "offset": float(part.calibrators[0].b_),
            }
            for part in parts
        ],
    }


def _sha256(name: str) -> str:
    return hashlib.sha256(files("profanity_check").joinpath("data", name).read_bytes()).hexdigest()


if __name__ == "__main__":
    text = json.dumps(weights(), separators=(",", ":"))
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{TARGET.stat().st_size:,} bytes, sha256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}: {TARGET}")

"""The files of alt-profanity-check, read for their words and numbers alone.

The package unpickles them into scikit-learn's classes, and so imports scikit-learn and SciPy: most of a second of CPU
at each start, for a few arrays. Here these classes are stood for by ones that only keep what they are given.
"""

import importlib.util
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_READ: Final = frozenset({"numpy", "joblib", "builtins"})  # packages whose classes are what they are
_STOOD_FOR: Final = frozenset({"sklearn", "scipy"})


@dataclass(frozen=True, slots=True)
class Numbers:
    """The parameters of the classifier: inverse document frequencies by word, and calibrated linear classifiers."""

    vocabulary: dict[str, int]
    idf: NDArray[np.float64]  # (words,)
    coefficients: NDArray[np.float64]  # (words, classifiers)
    intercept: NDArray[np.float64]  # (classifiers,)
    slope: NDArray[np.float64]  # (classifiers,) of Platt's sigmoid
    offset: NDArray[np.float64]  # (classifiers,)


class _Kept:
    """An object of a class that is not imported: it has the attributes that it was packed with."""

    def __init__(self, *_: object) -> None:
        """Accept any arguments."""


def read_numbers() -> Numbers:
    """Return the parameters. Files of another release, packed in another way, are read by the package itself."""
    try:
        return _numbers(_unpacked("vectorizer"), _unpacked("model"))
    except (AttributeError, ImportError, KeyError, OSError, TypeError, pickle.UnpicklingError):
        from profanity_check import profanity_check  # loads its two files when imported

        return _numbers(profanity_check.vectorizer, profanity_check.model)


def _numbers(vectorizer: Any, model: Any) -> Numbers:
    tfidf = vectorizer if hasattr(type(vectorizer), "idf_") else vectorizer._tfidf
    parts = model.calibrated_classifiers_
    return Numbers(
        vocabulary={word: int(i) for word, i in vectorizer.vocabulary_.items()},
        idf=np.asarray(tfidf.idf_, dtype=np.float64),
        coefficients=np.stack([np.asarray(part.estimator.coef_[0], dtype=np.float64) for part in parts], axis=1),
        intercept=np.array([part.estimator.intercept_[0] for part in parts]),
        slope=np.array([part.calibrators[0].a_ for part in parts]),
        offset=np.array([part.calibrators[0].b_ for part in parts]),
    )


def _unpacked(name: str) -> Any:
    from joblib.numpy_pickle import NumpyUnpickler

    class Unpickler(NumpyUnpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            package = module.partition(".")[0]
            if package in _STOOD_FOR:
                return type(name, (_Kept,), {})
            if package not in _READ:
                raise pickle.UnpicklingError(f"{module}.{name} is no part of such a file")
            return super().find_class(module, name)

    found = importlib.util.find_spec("profanity_check")
    if found is None or found.origin is None:
        raise ImportError("profanity_check is not installed")
    path = Path(found.origin).parent / "data" / f"{name}.joblib"
    with path.open("rb") as file:
        return Unpickler(str(path), file, True).load()

"""FAISS, loaded when it is first needed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


def faiss() -> Any:
    """Return the library, set to one thread for all callers: a search needs no second core, and a rebuild leaves it to
    searches.

    The setting is a thread's own, so it is made at each use; it takes 0.1 microseconds.
    """
    import faiss as library

    library.omp_set_num_threads(1)
    return library


def selector(alive: Bits | None, count: int) -> Any:
    """Return a FAISS selector of the living rows among the first `count`; None if all live. It borrows the bits."""
    if alive is None:
        return None
    return faiss().IDSelectorBitmap(count, faiss().swig_ptr(alive))

"""Parameters of which the fast run takes the first alone: the others repeat it at other values, for seconds."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_after_first(values: Iterable[Any]) -> list[Any]:
    """Return the values for `parametrize`; all but the first are slow."""
    first, *others = values
    sets = (value if type(value) is tuple else (value,) for value in others)
    return [first, *(pytest.param(*values, marks=pytest.mark.slow) for values in sets)]

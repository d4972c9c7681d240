"""The base of generators that stand around another one."""

from headrace_workers.core.ports import Generator


class WrappedGenerator:
    """A generator with the name and the sizes of its `inner` one. As thread-safe as that."""

    def __init__(self, inner: Generator) -> None:
        self._inner = inner

    @property
    def alias(self) -> str:
        """Return the name that jobs ask for it by."""
        return self._inner.alias

    @property
    def quantization(self) -> str:
        """Return the number format that it computes in."""
        return self._inner.quantization

    @property
    def context_length(self) -> int:
        """Return how many tokens prompt and answer may have together."""
        return self._inner.context_length

    @property
    def parallel(self) -> int:
        """Return how many calls it computes side by side."""
        return self._inner.parallel

"""Header names that no client of ours would write: kafka-python sends what a name says its bytes are."""


class OddName(str):
    """A header's name with these very bytes, UTF-8 or not."""

    def __new__(cls, raw: bytes) -> "OddName":
        name = super().__new__(cls, raw.decode("utf-8", "backslashreplace"))
        name._raw = raw
        return name

    _raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The bytes, whatever the encoding."""
        return self._raw

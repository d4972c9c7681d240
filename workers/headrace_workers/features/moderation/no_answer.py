"""Why a detector that asks somebody else has nothing to say."""

from headrace_schemas.errors import Unavailable


class NoAnswer(Unavailable):
    """An answer of a guard or endpoint cannot be used. The message quotes nothing of the text.

    `passes`: it may give one the next time; where it refuses the key or has nothing at this address, it will not.
    """

    def __init__(self, words: str, *, passes: bool = True) -> None:
        super().__init__(words)
        self.passes = passes

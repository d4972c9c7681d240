"""Numbers, in order: `two` is `2`, and `1,500.0` is `1500`."""

from headrace_workers.guards.profile import Profile, said


class Numbers:
    """Refuses other numbers, and the same numbers in another order."""

    name = "numbers"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where all numbers agree in order."""
        ours, theirs = _numbers(asked), _numbers(cached)
        if ours != theirs and "1" in (*ours, *theirs):  # `one egg` is `an egg`, and `one` may be anybody
            ours, theirs = _numbers(asked, one=False), _numbers(cached, one=False)
        return (
            None
            if ours == theirs
            else f"asks with the numbers {said(ours, asked)}; the answer is for {said(theirs, cached)}"
        )


def _numbers(read: Profile, *, one: bool = True) -> list[str]:
    return [token.key for token in read.tokens if token.kind == "number" and (one or token.text.lower() != "one")]

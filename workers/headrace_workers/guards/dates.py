"""Dates, days, months and times of day, in any order and any way of writing."""

from headrace_workers.guards.profile import Profile, read_once, said


class Dates:
    """Refuses another date, day, month, season or time."""

    name = "dates"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Why not, in words; None where the same dates are named."""
        ours, theirs = _dates(asked), _dates(cached)
        return None if ours == theirs else f"asks about {said(ours, asked)}; the answer is for {said(theirs, cached)}"


@read_once
def _dates(read: Profile) -> list[str]:
    return sorted(token.key for token in read.tokens if token.kind == "date")

"""Dates, days, months and times of day, in any order and any way of writing."""

from headrace_workers.features.cache.guards.profile import Profile, in_words, of_kinds


class Dates:
    """Refuses another date, day, month, season or time."""

    name = "dates"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the same dates are named."""
        ours, theirs = _dates(asked), _dates(cached)
        return (
            None
            if ours == theirs
            else f"asks about {in_words(ours, asked)}; the answer is for {in_words(theirs, cached)}"
        )


def _dates(read: Profile) -> list[str]:
    return sorted(of_kinds(read).get("date", ()))

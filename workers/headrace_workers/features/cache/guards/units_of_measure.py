"""Units of measure and money: kilometres are not miles."""

from headrace_workers.features.cache.guards.profile import Profile, in_words, of_kinds


class Units:
    """Refuses another unit; the same by another name passes."""

    name = "units"

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why not, in words; None where the same units are named."""
        ours, theirs = _units(asked), _units(cached)
        return (
            None if ours == theirs else f"asks in {in_words(ours, asked)}; the answer is in {in_words(theirs, cached)}"
        )


def _units(read: Profile) -> list[str]:
    return sorted(of_kinds(read).get("unit", ()))

"""A text as detectors see it: as it is, and as it reads without what hides words in it."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from headrace_workers.core.ports import Detection
from headrace_workers.features.moderation.base64_runs import decoded, may_hold_runs
from headrace_workers.features.moderation.disguises import has_signs, without_invisible, without_signs
from headrace_workers.features.moderation.homoglyphs import without_lookalikes
from headrace_workers.features.moderation.typed import as_typed


@dataclass(frozen=True, slots=True)
class Look:
    """Text number `of`, whole or changed; then `begins` and `ends` are where each character of it comes from.

    `for_words` is one that changes digits and signs: it is no look for detectors that read those.
    """

    of: int
    text: str
    begins: Sequence[int] | None = None
    ends: Sequence[int] | None = None
    for_words: bool = False

    def in_whole(self, detection: Detection) -> Detection:
        """Return the detection with its span in the whole text."""
        if self.begins is None:
            return detection
        start = self.begins[detection.start]
        end = self.begins[detection.end - 1] + 1 if self.ends is None else self.ends[detection.end - 1]
        return replace(detection, start=start, end=end)


def looks_at(texts: Sequence[str]) -> list[Look]:
    """Return all readings of these texts: first each text as it is, since that may be what is meant."""
    looks = [Look(i, text) for i, text in enumerate(texts)]
    for i, text in enumerate(texts):
        # Most texts hide nothing, and each is looked at: so the three questions are put here at once.
        if not text.isascii() or has_signs(text) or may_hold_runs(text):
            looks += _changed(i, text)
    return looks


def _changed(of: int, text: str) -> Iterator[Look]:
    places: Sequence[int] | None = None
    if (seen := without_invisible(text)) is not None:
        text, places = seen
        yield Look(of, text, places)
    text = yield from _folded(of, text, places)
    if (plain := decoded(text)) is not None:
        begins, ends = plain.begins, plain.ends
        if places is not None:
            begins, ends = [places[at] for at in begins], [places[at - 1] + 1 for at in ends]
        yield Look(of, plain.text, begins, ends)
        yield from _folded(of, plain.text, begins, ends)


def _folded(
    of: int, text: str, begins: Sequence[int] | None, ends: Sequence[int] | None = None
) -> Generator[Look, None, str]:
    """Yield one look at the text with characters replaced one for one, except those for words; return that text."""
    seen = as_typed(text) or text
    seen = without_lookalikes(seen) or seen
    if seen != text:
        text = seen
        yield Look(of, text, begins, ends)
    if (words := without_signs(text)) is not None:
        yield Look(of, words, begins, ends, for_words=True)
    return text

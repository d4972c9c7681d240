"""A measurement of the cache on given pairs of questions: one table, and everything as JSON. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace_workers.cli.output import Rows, table
from headrace_workers.features.cache.measuring import Judged, Served, lowest_shown

_SHOWN = (0.70, 0.80, 0.85, 0.90, 0.95, 0.99)  # the thresholds in the table
_COLUMNS = ("threshold", "served of the same", "served", "wrong", "of served", "at most")


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement: each pair, each threshold, the configured threshold, and the accepted error."""

    file: str
    embedder: str
    judged: Sequence[Judged]
    swept: Sequence[Served]
    threshold: float
    max_error: float

    @property
    def here(self) -> Served:
        """The serves at the configured threshold."""
        return next(served for served in self.swept if served.threshold == self.threshold)

    @property
    def wrong(self) -> list[Judged]:
        """The pairs that are served wrongly at the configured threshold; the most similar first."""
        return _by_similarity(pair for pair in self.judged if not pair.pair.holds and pair.served(self.threshold))

    @property
    def lost(self) -> list[Judged]:
        """The pairs that ask the same and are similar enough, but that a guard refuses."""
        return _by_similarity(
            pair
            for pair in self.judged
            if pair.pair.holds and pair.refusal is not None and pair.similarity >= self.threshold
        )


def cache_table(measured: Measured) -> Rows:
    """Return what is served at some thresholds, the configured one among them."""
    title = f"{len(measured.judged):,} pairs, {measured.here.should:,} of them the same; upper bounds at 95 %"
    chosen = [served for served in measured.swept if served.threshold in {*_SHOWN, measured.threshold}]
    rows = [
        (f"{served.threshold:.2f}", share(served.hit_share), f"{served.served:,}", f"{served.wrong:,}",
         share(served.wrong_share, 2), share(served.at_most, 2))
        for served in chosen
    ]  # fmt: skip
    return table(title, _COLUMNS, rows, right=_COLUMNS)


def cache_lines(measured: Measured) -> list[str]:
    """Return the advice, and how many pairs are wrong, in words."""
    return [
        f"at {measured.threshold:g} {len(measured.wrong):,} of the pairs are served wrongly, and guards refuse "
        f"{len(measured.lost):,} that are the same: --json lists both",
        _advice(measured),
    ]


def cache_document(measured: Measured) -> dict[str, Any]:
    """Return everything, for `--json`."""
    best = lowest_shown(measured.swept, measured.max_error)
    return {
        "file": measured.file,
        "embedder": measured.embedder,
        "pairs": len(measured.judged),
        "same": measured.here.should,
        "threshold": measured.threshold,
        "max_error": measured.max_error,
        "lowest_threshold_shown": None if best is None else best.threshold,
        "thresholds": [
            {
                "threshold": served.threshold,
                "served": served.served,
                "hits": served.hits,
                "hit_share": rounded(served.hit_share),
                "wrong": served.wrong,
                "wrong_of_served": rounded(served.wrong_share),
                "wrong_of_served_at_most": rounded(served.at_most),
                "wrong_of_served_at_most_of_all_thresholds": rounded(served.together),
            }
            for served in measured.swept
        ],
        "served_wrongly": [_pair_dict(pair) for pair in measured.wrong],
        "refused_wrongly": [_pair_dict(pair) for pair in measured.lost],
    }


def share(value: float | None, digits: int = 1) -> str:
    """Return a share in percent; a dash if there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def rounded(value: float | None) -> float | None:
    """Return a number for JSON."""
    return None if value is None else round(value, 6)


def _advice(measured: Measured) -> str:
    """Return from which threshold on the bound is shown, or why from none."""
    shown = lowest_shown(measured.swept, measured.max_error)
    bound = f"at most {share(measured.max_error)} of what is served is wrong"
    if shown is None:
        most = max(served.served for served in measured.swept)
        return (
            f"no threshold shows that {bound} (up to {most:,} of the pairs are served; "
            "thousands are needed for a narrow bound)"
        )
    return (
        f"HEADRACE_SIMILARITY={shown.threshold:g} is the lowest threshold at which these pairs show that {bound}: "
        f"{shown.wrong:,} of {shown.served:,} served are wrong, {share(shown.together, 2)} at most, all thresholds "
        f"looked at; {share(shown.hit_share)} of what should be served is"
    )


def _pair_dict(judged: Judged) -> dict[str, Any]:
    refusal = judged.refusal
    return {
        "line": judged.pair.line,
        "similarity": rounded(judged.similarity),
        "question": judged.pair.first,
        "other": judged.pair.second,
        "refused": None if refusal is None else f"{refusal.guard}: {refusal.reason}",
    }


def _by_similarity(judged: Iterable[Judged]) -> list[Judged]:
    return sorted(judged, key=lambda pair: -pair.similarity)

"""Views of a cache measurement on given pairs: tables, JSON and a page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace_workers.cli.output import table
from headrace_workers.cli.pages import plots
from headrace_workers.cli.pages.page import Figure, Section, Table, page
from headrace_workers.cli.tables import shorten
from headrace_workers.features.cache.commands.bench_views import Shown, rounded, share
from headrace_workers.features.cache.measuring.pairs import Judged
from headrace_workers.features.cache.measuring.thresholds import Served, lowest_shown, refusals

_COSINE, _GUARDED = "cosine alone", "with guards"
_COARSE = (0.70, 0.80, 0.85, 0.90, 0.95, 0.99)  # the thresholds in the terminal's table
_WIDTH = 200  # characters of a question in a list
_SERVED = ("threshold", "decided by", "right served", "wrong", "of served", "at most", "of all", "at most ")
_SERVED_NUMBERS = ("threshold", "right served", "wrong", "of served", "at most", "of all", "at most ")
_REFUSED = ("guard", "refused rightly", "refused wrongly")
_WRONG = ("line", "cosine", "question", "was given the answer to")
_LOST = ("line", "cosine", "question", "not given the answer to", "why")


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement: each pair, each threshold, the configured threshold, and the accepted error."""

    file: str
    embedder: str
    judged: Sequence[Judged]
    swept: Sequence[Served]
    threshold: float
    max_error: float
    limit: int

    @property
    def here(self) -> Served:
        """Return what is served at the configured threshold."""
        return next(each for each in self.swept if each.guarded and each.threshold == self.threshold)

    @property
    def wrong(self) -> list[Judged]:
        """Return what is served wrongly at the configured threshold; the most similar first."""
        return _by_likeness(
            each for each in self.judged if not each.pair.same and each.served(self.threshold, guarded=True)
        )

    @property
    def lost(self) -> list[Judged]:
        """Return what should be served and is similar enough, but is refused by a guard."""
        return _by_likeness(
            each
            for each in self.judged
            if each.pair.same and each.refusal is not None and each.similarity >= self.threshold
        )

    @property
    def advice(self) -> str:
        """Return from which threshold on the bound is shown, or why from none."""
        shown = lowest_shown(self.swept, self.max_error)
        bound = f"at most {share(self.max_error)} of what is served is wrong"
        if shown is None:
            most = max(each.served for each in self.swept if each.guarded)
            return (
                f"no threshold shows that {bound} (up to {most:,} of the pairs are served; "
                "thousands are needed for a narrow bound)"
            )
        return (
            f"HEADRACE_SIMILARITY={shown.threshold:g} is the lowest threshold at which these pairs show that {bound}: "
            f"{shown.wrong:,} of {shown.served:,} served are wrong, {share(shown.together, 2)} at most, all thresholds "
            f"looked at; {share(shown.hit_share)} of what should be served is"
        )


def shown(measured: Measured) -> Shown:
    """Return the whole measurement."""
    refused = refusals(measured.judged, measured.threshold)
    coarse = [each for each in measured.swept if each.threshold in {*_COARSE, measured.threshold}]
    tables = [
        table(
            f"{len(measured.judged):,} pairs, {measured.here.should:,} of them the same; upper bounds at 95 %",
            _SERVED,
            [_served_row(each) for each in coarse],
            right=_SERVED_NUMBERS,
        )
    ]
    at = f"at {measured.threshold:g}"
    if refused:
        rows = [(each.guard, f"{each.rightly:,}", f"{each.wrongly:,}") for each in refused]
        tables.append(table(f"what guards refuse {at}", _REFUSED, rows, right=_REFUSED[1:]))
    if wrong := measured.wrong[: measured.limit]:
        title = f"served wrongly {at}, with guards: {len(wrong)} of {len(measured.wrong):,}"
        tables.append(table(title, _WRONG, [_pair_row(each) for each in wrong], right=_WRONG[:2]))
    if lost := measured.lost[: measured.limit]:
        title = f"the same, and refused {at}: {len(lost)} of {len(measured.lost):,}"
        tables.append(table(title, _LOST, [_lost_row(each) for each in lost], right=_LOST[:2]))
    return Shown(tables, [measured.advice], _document(measured), lambda: _page(measured))


def _document(measured: Measured) -> dict[str, Any]:
    best = lowest_shown(measured.swept, measured.max_error)
    return {
        "file": measured.file,
        "embedder": measured.embedder,
        "pairs": len(measured.judged),
        "same": measured.here.should,
        "threshold": measured.threshold,
        "max_error": measured.max_error,
        "lowest_threshold_shown": None if best is None else best.threshold,
        "thresholds": [_served_dict(each) for each in measured.swept],
        "guards": [
            {"guard": each.guard, "rightly": each.rightly, "wrongly": each.wrongly}
            for each in refusals(measured.judged, measured.threshold)
        ],
        "served_wrongly": [_pair_dict(each) for each in measured.wrong],
        "refused_wrongly": [_pair_dict(each) for each in measured.lost],
    }


def _page(measured: Measured) -> str:
    here = measured.here
    return page(
        f"Answers that the cache would serve: {measured.file}",
        f"{len(measured.judged):,} pairs, {here.should:,} of them the same; {measured.embedder}; threshold "
        f"{measured.threshold:g}; bounds hold at 95 %, one-sided, pairs that share a question taken together.",
        _figures(measured, here),
        _sections(measured, here),
    )


def _figures(measured: Measured, here: Served) -> list[Figure]:
    good = here.of_served_at_most <= measured.max_error if here.served else None
    return [
        Figure(share(here.hit_share), f"of what should be served is, at {measured.threshold:g} with guards"),
        Figure(share(here.wrong_of_served, 2), f"of the {here.served:,} served are wrong"),
        Figure(share(here.of_served_at_most, 2), "of the served may be wrong, at most (95 %)", good),
        Figure(share(here.of_all_at_most, 2), "of all look-ups may be wrong, at most (95 %)"),
    ]


def _sections(measured: Measured, here: Served) -> list[Section]:
    at = f"at {measured.threshold:g}"
    refused = [
        (each.guard, f"{each.rightly:,}", f"{each.wrongly:,}") for each in refusals(measured.judged, here.threshold)
    ]
    chosen = [place for place, each in enumerate(measured.swept) if each is here]
    return [
        Section(
            "Which threshold",
            [
                f"{measured.advice[0].upper()}{measured.advice[1:]}.",
                "The share of wrong answers depends on how often different questions come: this report assumes "
                "the mix of this file. The shaded bands reach up to the upper bounds.",
            ],
            [*_by_threshold(measured), _alike(measured)],
        ),
        Section(f"Refusals of guards {at}", tables=[Table(_REFUSED, refused, right=_REFUSED[1:])]),
        Section(
            f"Served wrongly {at}, with guards: {len(measured.wrong):,}",
            tables=[Table(_WRONG, [_pair_row(each) for each in measured.wrong], right=_WRONG[:2], tall=True)],
        ),
        Section(
            f"The same, and refused {at}: {len(measured.lost):,}",
            tables=[Table(_LOST, [_lost_row(each) for each in measured.lost], right=_LOST[:2], tall=True)],
        ),
        Section(
            "Each threshold",
            tables=[Table(_SERVED, [_served_row(s) for s in measured.swept], right=_SERVED_NUMBERS, chosen=chosen)],
        ),
    ]


def _by_threshold(measured: Measured) -> list[str]:
    """Draw the share of wrong and of served answers at each threshold, without guards and with them."""
    x = plots.Axis("threshold (cosine)", 0.70, 1.0, plots.plain)
    ways = [
        (name, [each for each in measured.swept if each.guarded is guarded])
        for name, guarded in ((_COSINE, False), (_GUARDED, True))
    ]
    served = [
        plots.Line(name, [(s.threshold, s.wrong_of_served) for s in way], [s.of_served_at_most for s in way])
        for name, way in ways
    ]
    most = max([3 * measured.max_error, *(value for line in served for _, value in line.points if value is not None)])
    now = plots.Mark(measured.threshold, "set now")
    borne = plots.Mark(measured.max_error, f"borne: {plots.percent(measured.max_error)}")
    return [
        plots.lines(
            "Wrong answers among those served", x, _share_up_to(min(1.0, 1.15 * most)), served, across=borne, down=now
        ),
        plots.lines(
            "The same near the bound, with guards",
            x,
            _share_up_to(4 * measured.max_error),
            [served[1]],
            across=borne,
            down=now,
        ),
        plots.lines(
            "Served, of what should be",
            x,
            _share_up_to(1.0),
            [plots.Line(name, [(s.threshold, s.hit_share) for s in way]) for name, way in ways],
            down=now,
        ),
    ]


def _share_up_to(top: float) -> plots.Axis:
    return plots.Axis("", 0.0, top, plots.percent)


def _alike(measured: Measured) -> str:
    """Draw the similarities of pairs that mean the same, and of pairs that do not."""
    least = min(0.0, *(each.similarity for each in measured.judged))
    return plots.histogram(
        "How alike pairs are",
        plots.Axis("cosine", least, 1.0, plots.plain),
        [
            (name, [each.similarity for each in measured.judged if each.pair.same is same])
            for name, same in (("not the same", False), ("the same", True))
        ],
        down=plots.Mark(measured.threshold, "set now"),
    )


def _served_row(each: Served) -> tuple[str, ...]:
    return (
        f"{each.threshold:.2f}", _GUARDED if each.guarded else _COSINE, share(each.hit_share), f"{each.wrong:,}",
        share(each.wrong_of_served, 2), share(each.of_served_at_most, 2), share(each.wrong_of_all, 2),
        share(each.of_all_at_most, 2),
    )  # fmt: skip


def _served_dict(each: Served) -> dict[str, Any]:
    return {
        "threshold": each.threshold,
        "guards": each.guarded,
        "should": each.should,
        "served": each.served,
        "hits": each.hits,
        "hit_share": rounded(each.hit_share),
        "wrong": each.wrong,
        "wrong_of_served": rounded(each.wrong_of_served),
        "wrong_of_served_at_most": rounded(each.of_served_at_most),
        "wrong_of_served_at_most_of_all_thresholds": rounded(each.together),
        "wrong_of_all": rounded(each.wrong_of_all),
        "wrong_of_all_at_most": rounded(each.of_all_at_most),
    }


def _pair_row(each: Judged) -> tuple[str, ...]:
    pair = each.pair
    return (str(pair.line), f"{each.similarity:.3f}", shorten(pair.question, _WIDTH), shorten(pair.other, _WIDTH))


def _lost_row(each: Judged) -> tuple[str, ...]:
    return (*_pair_row(each), _why(each) or "")


def _pair_dict(each: Judged) -> dict[str, Any]:
    return {
        "line": each.pair.line,
        "similarity": rounded(each.similarity),
        "question": each.pair.question,
        "other": each.pair.other,
        "refused": _why(each),
    }


def _why(each: Judged) -> str | None:
    return None if each.refusal is None else f"{each.refusal.guard}: {each.refusal.reason}"


def _by_likeness(judged: Any) -> list[Judged]:
    return sorted(judged, key=lambda each: -each.similarity)

"""Views of a retrieval measurement on given questions: tables, JSON and a page. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace_workers.cli import pages
from headrace_workers.cli.output import Rows, table
from headrace_workers.cli.pages import Figure, Section, Table, page
from headrace_workers.cli.receipts import shorten
from headrace_workers.features.cache.commands.bench_cache import rounded, share
from headrace_workers.features.knowledge.retrieval_quality import (
    DEPTHS,
    FIRST,
    FUSED,
    LEGS,
    Answered,
    Floor,
    Quality,
    floors,
    missed,
    place,
    qualities,
)

FLOORS = tuple(round(step * 0.05, 2) for step in range(17))  # 0 to 0.8
_COARSE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # the floors in the terminal's table
_NEEDED = 0.95  # of the right passages, that a floor should keep
_WIDTH = 200  # characters of a question in a list
_QUALITY = ("ranked by", "nDCG@10", "MRR", *(f"recall@{k}" for k in DEPTHS))
_FLOORS = ("floor", "right passages kept", "wrong ones dropped", "questions with a right one")
_MISSED = ("line", "question", "right", *LEGS)


@dataclass(frozen=True, slots=True)
class Shown:
    """The tables for a terminal and the words below them, everything for `--json`, and what makes the page."""

    tables: Sequence[Rows]
    words: Sequence[str]
    document: dict[str, Any]
    page: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement: each question, the seconds of each search, and the configured floor."""

    base: str
    file: str
    embedder: str
    passages: int
    answered: Sequence[Answered]
    seconds: Sequence[float]
    floor: float
    limit: int

    @property
    def rate(self) -> float:
        """Return queries a second, run one after the other."""
        return len(self.seconds) / max(1e-9, sum(self.seconds))

    def took(self, percent: float) -> float:
        """Return a percentile of the searches in ms, by nearest rank: it is a measured value."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

    @property
    def floors(self) -> list[Floor]:
        """Return the effect of each floor."""
        return floors(self.answered, sorted({*FLOORS, self.floor}))

    @property
    def advice(self) -> str:
        """Return how high a floor may be."""
        keeping = [floor for floor in self.floors if floor.kept is not None and floor.kept >= _NEEDED]
        if not keeping:
            return "no right passage is among the first ten of any question: no floor can be told from these"
        best = keeping[-1]
        return (
            f"a floor of {best.floor:g} keeps {share(best.kept)} of the right passages among the first ten and drops "
            f"{share(best.dropped)} of the wrong ones"
        )


def shown(measured: Measured) -> Shown:
    """Return the whole measurement."""
    ranked = qualities(measured.answered)
    lost = missed(measured.answered, FUSED)
    title = f"{measured.base}: {len(measured.answered):,} questions, {measured.passages:,} passages"
    tables = [
        table(title, _QUALITY, [_quality_row(quality) for quality in ranked], right=_QUALITY[1:]),
        table(
            "relevance of the first ten passages",
            _FLOORS,
            [_floor_row(floor) for floor in measured.floors if floor.floor in {*_COARSE, measured.floor}],
            right=_FLOORS,
        ),
    ]
    if lost and measured.limit:
        caption = (
            f"nothing right among the first ten: {min(len(lost), measured.limit)} of {len(lost):,}; at which place"
        )
        rows = [_missed_row(missed) for missed in lost[: measured.limit]]
        tables.append(table(caption, _MISSED, rows, right=("line", *LEGS)))
    words = [
        measured.advice,
        f"{measured.rate:,.0f} queries/s one after the other, with the embedding; p50 {measured.took(50):.1f} ms, "
        f"p99 {measured.took(99):.1f} ms",
    ]
    return Shown(tables, words, _document(measured), lambda: _page(measured))


def _document(measured: Measured) -> dict[str, Any]:
    return {
        "knowledge": measured.base,
        "file": measured.file,
        "embedder": measured.embedder,
        "passages": measured.passages,
        "questions": len(measured.answered),
        "ranked_by": [
            {
                "leg": quality.leg,
                "ndcg_at_10": rounded(quality.ndcg),
                "mrr": rounded(quality.mrr),
                "recall": {str(k): rounded(value) for k, value in quality.recall.items()},
            }
            for quality in qualities(measured.answered)
        ],
        "queries_a_second": rounded(measured.rate),
        "p50_ms": rounded(measured.took(50)),
        "p99_ms": rounded(measured.took(99)),
        "floor": measured.floor,
        "floors": [
            {
                "floor": floor.floor,
                "right_kept": rounded(floor.kept),
                "wrong_dropped": rounded(floor.dropped),
                "questions_with_a_right_one": rounded(floor.answered),
            }
            for floor in measured.floors
        ],
        "missed": [
            {
                "line": question.asked.line,
                "question": question.asked.question,
                "right": sorted(question.asked.right),
                "places": {leg: place(question, leg) for leg in LEGS},
            }
            for question in missed(measured.answered, FUSED)
        ],
    }


def _page(measured: Measured) -> str:
    ranked = qualities(measured.answered)
    fused = next(quality for quality in ranked if quality.leg == FUSED)
    return page(
        f"How well {measured.base} is searched: {measured.file}",
        f"{len(measured.answered):,} questions, {measured.passages:,} passages; {measured.embedder}.",
        [
            Figure(share(fused.recall[FIRST]), "of what is right is among the first ten"),
            Figure(number(fused.ndcg), "nDCG@10, fused"),
            Figure(number(fused.mrr), "mean reciprocal rank"),
            Figure(f"{measured.rate:,.0f}/s", f"queries, one after the other; p99 {measured.took(99):.1f} ms"),
        ],
        [_by_leg(measured, ranked, fused), _by_floor(measured), _nothing_right(measured)],
    )


def _by_leg(measured: Measured, ranked: Sequence[Quality], fused: Quality) -> Section:
    chosen = [index for index, quality in enumerate(ranked) if quality is fused]
    rows = [_quality_row(quality) for quality in ranked]
    return Section(
        "By words, by vectors, and fused",
        plots=[_recall(ranked), _relevance(measured)],
        tables=[Table(_QUALITY, rows, right=_QUALITY[1:], chosen=chosen)],
    )


def _recall(ranked: Sequence[Quality]) -> str:
    # Depths are evenly spaced, since the first places matter most.
    return pages.lines(
        "Recall by depth",
        pages.Axis("the first k", 0, len(DEPTHS) - 1, lambda step: str(DEPTHS[round(step)])),
        pages.Axis("", 0.0, 1.0, pages.percent),
        [
            pages.Line(quality.leg, [(step, quality.recall[k]) for step, k in enumerate(DEPTHS)])
            for quality in sorted(ranked, key=lambda quality: quality.leg != FUSED)
        ],
    )


def _relevance(measured: Measured) -> str:
    right = [value for question in measured.answered for value in question.right]
    wrong = [value for question in measured.answered for value in question.wrong]
    return pages.histogram(
        "Relevance of the first ten passages",
        pages.Axis("cosine to the question", min([0.0, *right, *wrong]), 1.0, pages.plain),
        [("right", right), ("wrong", wrong)],
        down=pages.Mark(measured.floor, "set now"),
    )


def _by_floor(measured: Measured) -> Section:
    chosen = [index for index, floor in enumerate(measured.floors) if floor.floor == measured.floor]
    return Section(
        "Where a floor can be",
        [
            f"{measured.advice[0].upper()}{measured.advice[1:]}. "
            "A passage that is not among the hundred nearest by its vector counts as 0."
        ],
        tables=[Table(_FLOORS, [_floor_row(floor) for floor in measured.floors], right=_FLOORS, chosen=chosen)],
    )


def _nothing_right(measured: Measured) -> Section:
    lost = missed(measured.answered, FUSED)
    return Section(
        f"Nothing right among the first ten: {len(lost):,}",
        ["At which place each way of ranking has the first that is right; a dash where it has none."],
        tables=[Table(_MISSED, [_missed_row(missed) for missed in lost], right=("line", *LEGS), tall=True)],
    )


def number(value: float | None, digits: int = 3) -> str:
    """Return a number; a dash if there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _quality_row(quality: Quality) -> tuple[str, ...]:
    return (quality.leg, number(quality.ndcg), number(quality.mrr), *(number(quality.recall[k]) for k in DEPTHS))


def _floor_row(floor: Floor) -> tuple[str, ...]:
    return (f"{floor.floor:.2f}", share(floor.kept), share(floor.dropped), share(floor.answered))


def _missed_row(question: Answered) -> tuple[str, ...]:
    places = (place(question, leg) for leg in LEGS)
    right = ", ".join(sorted(question.asked.right))
    return (
        str(question.asked.line), shorten(question.asked.question, _WIDTH), shorten(right, _WIDTH),
        *("–" if at is None else str(at) for at in places),
    )  # fmt: skip

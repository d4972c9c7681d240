"""The state of a run of an eval: its words, and the tally of its items. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Self

QUEUED: Final = "queued"
IN_PROGRESS: Final = "in_progress"
CANCELING: Final = "canceling"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELED: Final = "canceled"

# An item has no state until its result is known.
PASS, FAIL, ERROR = "pass", "fail", "error"


_LEVEL: Final = 0.95
_Z: Final = NormalDist().inv_cdf((1 + _LEVEL) / 2)
_PLURAL: Final = {PASS: "passed", FAIL: "failed", ERROR: "errored"}


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts, as JSON keeps them. `graders`: of each, by its name, how many passed, failed and errored. `models`: of
    each, how often it was asked, and its tokens.
    """

    counts: Mapping[str, int]
    graders: Mapping[str, Mapping[str, int]]
    models: Mapping[str, Mapping[str, int]]

    @classmethod
    def empty(cls, graders: Sequence[str], errored: int = 0) -> Self:
        """Return the tally before any item has ended, except for items that made no job."""
        none = dict.fromkeys(_PLURAL.values(), 0)
        return cls({**none, "errored": errored}, {name: {**none, "errored": errored} for name in graders}, {})

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], graders: Sequence[str]) -> Self:
        """Return the tally from `to_json`; an empty one from an empty object."""
        return cls(raw["counts"], raw["graders"], raw["models"]) if raw else cls.empty(graders)

    def to_json(self) -> dict[str, Any]:
        """Return the tally as JSON, to be stored."""
        return {"counts": dict(self.counts), "graders": dict(self.graders), "models": dict(self.models)}

    def with_end(self, status: str, results: Sequence[Mapping[str, Any]], sample: Mapping[str, Any]) -> Self:
        """Return the tally with one more item that ended. Without results, every grader has an error."""
        status_by_name = {result["name"]: status_of([result]) for result in results}
        graders = {
            name: _more(counts, _PLURAL[status_by_name.get(name, ERROR)]) for name, counts in self.graders.items()
        }
        models = dict(self.models)
        if (model := sample.get("model")) and sample["error"] is None:
            usage = sample["usage"]
            before = models.get(model, {"invocation_count": 0, **dict.fromkeys(usage, 0)})
            models[model] = {
                "invocation_count": before["invocation_count"] + 1,
                **{name: before[name] + tokens for name, tokens in usage.items()},
            }
        return type(self)(_more(self.counts, _PLURAL[status]), graders, models)


def status_of(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the status of an item: `pass` where every grader passed it, `error` where one has no score and none failed
    it, else `fail`.
    """
    if any(not result["passed"] and result["score"] is not None for result in results):
        return FAIL
    return PASS if results and all(result["passed"] for result in results) else ERROR


def pass_rate(passed: int, failed: int) -> dict[str, float] | None:
    """Return the share that passed of the judged items, with Wilson's interval; None where none was judged."""
    if (n := passed + failed) == 0:
        return None
    share = passed / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5
    return {"value": share, "low": max(0.0, middle - half), "high": min(1.0, middle + half), "level": _LEVEL, "n": n}


def _more(counts: Mapping[str, int], name: str) -> dict[str, int]:
    return {**counts, name: counts[name] + 1}

"""From receipts to rows that people read. Pure; how they are drawn is `output.py`'s business."""

from dataclasses import dataclass

from headrace_schemas import DeadLetter, ModerationVerdict, Result, Score
from headrace_workers.cli.durations import show_ms
from headrace_workers.cli.receipt import Receipt

COLUMNS = ("job", "answer", "ended", "moderation", "judge", "tokens", "ms")
ANSWER_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One receipt as text: the columns of `COLUMNS`, in their order."""

    job: str
    answer: str
    ended: str
    moderation: str
    judge: str
    tokens: str
    ms: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells in the order of the columns."""
        return (self.job, self.answer, self.ended, self.moderation, self.judge, self.tokens, self.ms)


def row(receipt: Receipt, width: int = ANSWER_WIDTH) -> Row:
    """One receipt as a row; the answer is cut to `width` characters."""
    event = receipt.event
    name = (receipt.job_id or "unknown")[:8]
    job = name if receipt.line is None else str(receipt.line)
    if isinstance(event, Result):
        answer = event.answer
        return Row(
            job=job,
            answer=shorten("(withheld)" if event.status == "blocked" else receipt.text or "(none asked for)", width),
            ended=answer.finish_reason if answer else event.kind,
            moderation=moderation(event.moderation),
            judge=judge(event.judge.scores),
            tokens=str(answer.usage.completion_tokens) if answer else "",
            ms=f"{event.total_ms:,.0f}",
        )
    if isinstance(event, DeadLetter):
        cause = f"{event.category} at {event.stage}: {event.reason}"
        return Row(job, shorten(cause, width), "dead", "", "", "", "")
    return Row(job, shorten(event.reason or "(no reason given)", width), "cancelled", "", "", "", "")


def moderation(verdict: ModerationVerdict | None) -> str:
    """What moderation did and why: `allow`, `redact email, person`, `block insult`."""
    if verdict is None:
        return ""
    causes = sorted({f.category for f in verdict.findings if f.action == verdict.action})
    if verdict.action == "allow" or not causes:
        return verdict.action
    return f"{verdict.action} {', '.join(causes)}"


def judge(scores: tuple[Score, ...]) -> str:
    """Each criterion with its score; one that could not be judged shows `?`."""
    return ", ".join(f"{s.criterion} {'?' if s.value is None else f'{s.value:.2f}'}" for s in scores)


def shorten(text: str, width: int) -> str:
    """The text on one line, cut to `width` characters."""
    line = " ".join(text[: width * 4].split())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def one_line(receipt: Receipt, width: int = 100) -> str:
    """A receipt on one line of a terminal: id, how it ended, what it cost, what it says."""
    shown = row(receipt, width)
    cost = f"{shown.tokens} tok  " if shown.tokens else ""
    time = f"{show_ms(receipt.event.total_ms)}  " if isinstance(receipt.event, Result) else ""
    return f"{receipt.job_id or 'unknown':<36}  {receipt.status:<9}  {cost}{time}{shown.answer}"

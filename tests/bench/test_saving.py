from collections import Counter
from datetime import UTC, datetime

from bench.saving import Asking, Replayed, rows, stream, wrong
from bench.wrong_hits_pairs import Meaning

from headrace_schemas import Answer, Result, Usage
from headrace_schemas.recall import CacheMode, CacheTier, Recall

MEANINGS = [Meaning("k", str(n), 0, tuple(f"{n} in words {w}" for w in range(5))) for n in range(40)]


def result(number: int, first: int | None = None) -> Result:
    """A job's result; with `first`, the answer of that job was served."""
    told = None if first is None else Recall(
        tier=CacheTier.SEMANTIC, similarity=0.95, first_job=job(first), saved_tokens=7, saved_ms=1_500.0
    )  # fmt: skip
    answer = Answer(text="a", finish_reason="stop", model="echo", quantization="none", recall=told,
                    usage=Usage(prompt_tokens=1, completion_tokens=0 if told else 7))  # fmt: skip
    return Result(
        job_id=job(number), tenant="default", status="completed", kind="generation", answer=answer, total_ms=1.0,
        accepted_at=datetime.now(UTC),
    )  # fmt: skip


def job(number: int) -> str:
    return f"00000000-0000-5000-8000-{number:012d}"


def test_a_stream_repeats_as_people_do() -> None:
    asked = stream(MEANINGS, 2_000)
    assert asked == stream(MEANINGS, 2_000)
    (most, times), (_, second) = Counter(asking.meaning for asking in asked).most_common(2)
    assert 1.5 < times / second < 2.5
    texts = Counter(asking.text for asking in asked if asking.meaning == most)
    assert len(texts) == 5
    assert 0.4 < texts[MEANINGS[most].wordings[0]] / times < 0.6
    assert {asking.text for asking in asked} <= {text for meaning in MEANINGS for text in meaning.wordings}


def test_an_answer_to_another_question_is_counted() -> None:
    asked = [Asking(1, "a"), Asking(1, "b"), Asking(2, "c"), Asking(3, "d")]
    assert wrong(asked, [result(0), result(1, first=0), result(2, first=1), result(3, first=99)]) == 2


def test_what_was_saved_is_told_beside_the_run_without() -> None:
    asked = [Asking(1, "a"), Asking(1, "b")]
    found = {
        CacheMode.OFF: Replayed(4.0, [result(0), result(1)]),
        CacheMode.SEMANTIC: Replayed(2.0, [result(0), result(1, first=0)]),
    }
    told = {row.metric: row for row in rows("echo", asked, found)}
    ratio = told["cache semantic: rate to that without"]
    assert (ratio.value, ratio.holds) == (2.0, True)
    assert told["cache off: tokens written"].value == 14
    assert told["cache semantic: tokens written"].value == 7
    assert told["cache semantic: tokens saved, as the receipts say"].value == 7
    assert told["cache semantic: seconds of the model saved, as the receipts say"].value == 1.5
    assert told["cache semantic: from the tier semantic"].value == 1

from typing import Any

import pytest

from headrace_schemas import Bleu, Contains, ExactMatch, Message, Rubric
from headrace_workers.features.evals.graders import graders_of
from headrace_workers.features.evals.templates import Scope
from headrace_workers.features.judging.ask_model import scale_of
from headrace_workers.features.judging.scores import Subject
from headrace_workers.features.judging.scoring import score_plain
from headrace_workers.http.openai import Refused

SAMPLE = "{{sample.output_text}}"
ROW = Scope({"question": "Capital of <France>?", "answer": "Paris", "of": {"any": {"depth": 3}}, "a.b": "dotted"})
CHECK = {"type": "string_check", "name": "right", "input": SAMPLE, "reference": "{{item.answer}}", "operation": "eq"}
LIKE = {"type": "text_similarity", "name": "like", "input": SAMPLE, "reference": "{{item.answer}}",
        "evaluation_metric": "bleu", "pass_threshold": 0.5}  # fmt: skip
LABELS = {
    "type": "label_model", "name": "polite", "model": "echo", "labels": ["good", "bad", "odd"],
    "passing_labels": ["good"],
    "input": [{"role": "developer", "content": "Asked: {{item.question}}"}, {"role": "user", "content": SAMPLE}],
}  # fmt: skip
SCORE = {"type": "score_model", "name": "how far", "model": "echo", "range": [0, 10],
         "input": [{"role": "user", "content": [{"type": "input_text", "text": f"Rate {SAMPLE}"}]}]}  # fmt: skip
MULTI = {"type": "multi", "name": "all", "calculate_output": "0.5 * a + 0.5 * b", "pass_threshold": 0.8,
         "graders": {"a": {**CHECK, "name": "x"}, "b": LIKE}}  # fmt: skip


def criterion(grader: dict[str, Any], row: Scope = ROW) -> Any:
    (found,) = graders_of([grader])
    return found.parts[0].criterion(row)


@pytest.mark.parametrize(
    ("operation", "output", "score"),
    [
        ("eq", "Paris", 1.0), ("eq", " Paris", 0.0), ("eq", "paris", 0.0), ("ne", "Paris", 0.0), ("ne", "Rome", 1.0),
        ("like", "It is Paris.", 1.0), ("like", "It is paris.", 0.0), ("ilike", "It is PARIS.", 1.0),
        ("ilike", "Rome", 0.0),
    ],
)  # fmt: skip
def test_a_string_check_is_judged_as_openai_says(operation: str, output: str, score: float):
    made = criterion({**CHECK, "operation": operation})
    assert isinstance(made, ExactMatch if operation in ("eq", "ne") else Contains)
    assert score_plain(made, Subject(output, (made,))).value == score


def test_what_is_the_same_both_ways_may_stand_either_way():
    assert criterion({**CHECK, "input": "{{item.answer}}", "reference": SAMPLE}) == criterion(CHECK).model_copy(
        update={"template": criterion({**CHECK, "input": "{{item.answer}}", "reference": SAMPLE}).template}
    )
    with pytest.raises(Refused, match="is what is judged: let it be the input"):
        graders_of([{**CHECK, "input": "{{item.answer}}", "reference": SAMPLE, "operation": "like"}])


def test_text_similarity_is_a_criterion_with_its_own_reference():
    assert isinstance(criterion(LIKE), Bleu)
    for metric in ("cosine", "fuzzy_match", "gleu"):
        made = criterion({**LIKE, "evaluation_metric": metric})
        assert (made.criterion, made.reference) == (metric, "Paris")
    rouge = criterion({**LIKE, "evaluation_metric": "rouge_2"})
    assert (rouge.criterion, rouge.variant, rouge.reference) == ("rouge", "2", "Paris")
    (grader,) = graders_of([LIKE])
    assert [grader.result([{"value": value}])["passed"] for value in (0.49, 0.5)] == [False, True]
    with pytest.raises(Refused, match=r"testing_criteria\[0\].pass_threshold: is missing"):
        graders_of([{name: said for name, said in LIKE.items() if name != "pass_threshold"}])


def test_models_that_judge_are_rubrics_and_texts_of_items_are_data():
    made = criterion(LABELS)
    assert isinstance(made, Rubric)
    assert made.question == "[the output]"
    assert made.messages == (Message(role="system", content="Asked: Capital of &lt;France&gt;?"),)
    assert dict(scale_of(made).values) == {"good": 1.0, "bad": 0.0, "odd": 0.0}
    assert made.show == ()
    assert criterion(SCORE).scale == "1-5"
    (grader,) = graders_of([SCORE])
    assert grader.result([{"value": 0.25}]) == {"name": "how far", "type": "score_model", "score": 2.5, "passed": False}
    assert grader.result([{"value": 0.5}])["passed"]


def turns(*roles: str) -> list[dict[str, str]]:
    """Messages of these roles, of which each says its place."""
    return [{"role": role, "content": f"{role} {place} {SAMPLE if place else ''}"} for place, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("roles", "before", "question"),
    [
        (["user"], [], ["user 0"]),
        (["system"], [], ["system 0"]),
        (["developer", "system"], [], ["developer 0", "system 1"]),
        (["user", "user"], [], ["user 0", "user 1"]),
        (["system", "user", "assistant", "user"], ["system", "user", "assistant"], ["user 3"]),
        (["user", "assistant", "user", "user"], ["user", "assistant"], ["user 2", "user 3"]),
        (["user", "developer"], ["system"], ["user 0"]),
    ],
)
def test_the_messages_to_a_judge_keep_their_roles(roles: list[str], before: list[str], question: list[str]):
    for grader in (LABELS, SCORE):
        made = criterion({**grader, "input": turns(*roles)})
        assert [message.role for message in made.messages] == before
        assert [said[: len(want)] for said, want in zip(made.question.split("\n\n"), question, strict=True)] == question
        assert graders_of([{**grader, "input": turns(*roles)}])[0].parts[0].judged == (
            graders_of([CHECK])[0].parts[0].judged if len(roles) > 1 else None
        )


def test_all_items_of_a_template_have_one_version():
    other = Scope({"question": "?", "answer": "Rome"})
    for grader in (CHECK, {**CHECK, "operation": "like"}, LIKE, LABELS, SCORE):
        assert criterion(grader).version == criterion(grader, other).version
    assert criterion(CHECK).version != criterion({**CHECK, "operation": "ne"}).version
    assert criterion({**CHECK, "name": "other"}).version == criterion(CHECK).version


def test_a_multi_has_the_criteria_of_its_graders_and_a_formula():
    (grader,) = graders_of([MULTI])
    assert [part.criterion(ROW).name for part in grader.parts] == ["all.a", "all.b"]
    assert grader.result([{"value": 1.0}, {"value": 0.7}])["score"] == pytest.approx(0.85)
    assert grader.result([{"value": 1.0}, {"value": 0.5}])["passed"] is False
    told = grader.result([{"value": 1.0}, {"value": None, "reason": "nobody judges"}])
    assert told == {"name": "all", "type": "multi", "score": None, "passed": False, "error": "nobody judges"}
    (divides,) = graders_of([{**MULTI, "calculate_output": "a / b"}])
    assert "division by zero" in divides.result([{"value": 1.0}, {"value": 0.0}])["error"]


def test_names_of_fields_may_be_deep():
    for name, text in (("item.of.any.depth", "3"), ("item.a.b", "dotted")):
        assert criterion({**CHECK, "reference": f"{{{{ {name} }}}}"}).reference == text
    with pytest.raises(ValueError, match=r"reference cannot be filled: it lacks `item.of.none`"):
        criterion({**CHECK, "reference": "{{item.of.none}}"})


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        ([], "testing_criteria: must name at least one"),
        ([1], r"testing_criteria\[0\]: must be an object"),
        ([{"type": "python", "name": "x", "source": "1"}], r"\[0\].type: a python grader is code"),
        ([{**MULTI, "graders": {"a": {"type": "python", "source": ""}}}], r"\[0\].graders.a.type: a python grader"),
        ([{**MULTI, "graders": {"a": MULTI}}], r"\[0\].graders.a.type: must be one of string_check"),
        ([{**CHECK, "type": "dream"}], r"\[0\].type: must be one of"),
        ([{**CHECK, "operation": "is"}], r"\[0\]: operation: must be 'eq', 'ne'"),
        ([{**CHECK, "image": 1}], r"\[0\]: 'image': is no field"),
        ([{**CHECK, "input": "{{sample.output_json}}"}], r"\[0\].input: \{\{sample.output_json\}\} is not known"),
        ([{**CHECK, "reference": "{{item.x"}], r"\[0\].reference: '\{\{item.x' opens no placeholder"),
        ([{**LIKE, "evaluation_metric": "bert"}], r"\[0\].evaluation_metric: must be one of cosine, fuzzy_match, bleu"),
        ([{**LIKE, "evaluation_metric": "meteor"}], r"meteor needs the synonyms of WordNet, .* must be one of cosine"),
        ([{**LABELS, "passing_labels": ["fine"]}], r"\[0\]: labels and passing_labels: 'fine' is not one"),
        ([{**LABELS, "labels": ["good", "good"]}], r"\[0\]: labels and passing_labels: two labels are the same"),
        ([{**LABELS, "input": [{"role": "user", "content": {"type": "input_image", "image_url": "x"}}]}],
         r"\[0\].input\[0\].content\[0\].type: must be one of"),
        ([{**LABELS, "input": [{"role": "tool", "content": "x"}]}], r"\[0\].input\[0\].role: must be one of"),
        ([{**LABELS, "input": turns("user", "assistant")}], r"\[0\].input: ends with the assistant's word"),
        ([{**LABELS, "input": turns("system", "assistant")}], r"\[0\].input: ends with the assistant's word"),
        ([{**LABELS, "input": [{"role": "user"}]}], r"\[0\].input\[0\].content is missing"),
        ([{**SCORE, "range": [1, 1]}], r"\[0\].range: must be two numbers"),
        ([{**SCORE, "input": [{"role": ["user"], "content": "x"}]}], r"input\[0\].role: must be one of"),
        ([{**SCORE, "range": [-1e308, 1e308]}], r"\[0\].range: must be two numbers"),
        ([{**SCORE, "sampling_params": {"temperature": 1}}], r"params.temperature: is not supported.* send 0"),
        ([{**MULTI, "calculate_output": "a + c"}], r"\[0\].calculate_output: 'c' is not one of the graders"),
        ([CHECK, CHECK], "two are called 'right'"),
        ([{**CHECK, "name": "a b"}, {**CHECK, "name": "a_b"}], "two are called 'a_b' as criteria"),
        ([{**MULTI, "graders": {f"g{n}": CHECK for n in range(9)}, "calculate_output": "g1", "name": str(m)}
          for m in range(2)], "are 18 with those of `multi`, and may be 16"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_its_place(criteria: list[Any], reason: str):
    with pytest.raises(Refused, match=reason):
        graders_of(criteria)

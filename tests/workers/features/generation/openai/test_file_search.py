import pytest
from tests.workers.features.generation.openai.ends import JOB_ID, answered

from headrace_schemas.grounding import Citation, Grounding
from headrace_workers.features.generation.openai.tools import annotations, knowledge_of, search_call
from headrace_workers.http.openai_errors import Refused

TOOL = {"type": "file_search", "vector_store_ids": ["mill"]}


@pytest.mark.parametrize(
    "asked",
    [{"tools": [TOOL]}, *({"tools": [TOOL], "tool_choice": c} for c in ("auto", "required", {"type": "file_search"}))],
)
def test_one_store_is_the_knowledge_base(asked):
    """It is always searched, so that whoever insists on it gets what is done anyway."""
    assert knowledge_of(asked) == {"knowledge": "mill"}


def test_its_filters_are_the_knowledge_base_s():
    """They have OpenAI's form already."""
    filters = {"type": "eq", "key": "language", "value": "en"}
    assert knowledge_of({"tools": [{**TOOL, "filters": filters}]}) == {
        "knowledge": "mill",
        "knowledge_filter": filters,
    }


@pytest.mark.parametrize("asked", [{}, {"tools": []}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
def test_without_a_tool_there_is_none(asked):
    """The answer is the model's own."""
    assert knowledge_of(asked) == {}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": ["file_search"]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].type"),
        ({"tools": [TOOL, TOOL]}, "tools[1]"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].vector_store_ids"),
        ({"tools": [{**TOOL, "vector_store_ids": []}]}, "tools[0].vector_store_ids"),
        ({"tools": [{**TOOL, "vector_store_ids": ["a", "b"]}]}, "tools[0].vector_store_ids"),
        ({"tools": [{**TOOL, "max_num_results": 3}]}, "tools[0].max_num_results"),
        ({"tools": [TOOL], "tool_choice": "none"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "headrace": {"knowledge": "mill"}}, "headrace.knowledge"),
        ({"tools": [TOOL], "headrace": {"knowledge_filter": {}}}, "headrace.knowledge_filter"),
    ],
)
def test_what_cannot_be_had_is_refused(asked, param):
    """By name."""
    with pytest.raises(Refused) as caught:
        knowledge_of(asked)
    assert caught.value.param == param


def test_the_search_is_told():
    """By the question that it was made with."""
    assert search_call(answered(), "why?") == {
        "id": f"fs_{JOB_ID}",
        "type": "file_search_call",
        "status": "completed",
        "queries": ["why?"],
        "results": None,
    }


def test_citations_point_into_the_text():
    """In its order; one that is within a range points to its end, and what was not cited is not told."""
    text = "So it is [2]. As [12]. Or so [1, 12]. And [3-5]."
    cited = {1: True, 2: True, 4: True, 6: False, 12: True}
    documents = {n: f"{n}.md" for n in cited} | {12: "file-3/12.md"}  # it came as a file of a vector store
    grounding = Grounding(
        knowledge="mill",
        floor=0.3,
        citations=tuple(
            Citation(
                number=n,
                document=documents.get(n, f"{n}.md"),
                start=0,
                stop=9,
                chunk="c",
                relevance=0.5,
                cited=is_cited,
            )
            for n, is_cited in cited.items()
        ),
    )
    found = annotations(answered(text, grounding=grounding))
    assert [(each["filename"], each["index"]) for each in found] == [
        ("2.md", 9),
        ("12.md", 17),
        ("1.md", 29),
        ("4.md", len(text)),
    ]
    assert {each["type"] for each in found} == {"file_citation"}
    assert [each["file_id"] for each in found] == ["2.md", "file-3", "1.md", "4.md"]
    assert annotations(answered(None, grounding=grounding)) == []
    assert annotations(answered()) == []

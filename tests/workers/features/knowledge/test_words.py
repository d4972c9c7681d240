import pytest

from headrace_workers.features.knowledge.lexical import term_counts, words


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Café", {"the", "cafe"}),
        ("asyncio.TaskGroup()", {"asyncio.taskgroup", "asyncio", "taskgroup", "task", "group"}),
        ("max_age=3", {"max_age", "max", "age", "3"}),
        ("HTTPServer2", {"httpserver2", "http", "server"}),
        ("C++, C# and C", {"c++", "c#", "c", "and"}),
        ("3.13", {"3.13", "3", "13"}),
        ("東京", {"東", "京", "東京"}),
        ("Größe STRASSE straße", {"grosse", "strasse"}),
        ("हिन्दी।", {"हिन्दी"}),
        ("ＡＢＣ ﬁle", {"abc", "file"}),
        ("", set()),
        ("?! …", set()),
    ],
)
def test_terms(text: str, terms: set[str]) -> None:
    """Prose, names in code, and scripts of several kinds."""
    assert set(term_counts(text)) == terms


def test_terms_are_counted() -> None:
    assert term_counts("task_id task")["task"] == 2


def test_a_long_term_is_known_by_its_beginning() -> None:
    assert max(map(len, term_counts("Ab0" * 100_000))) == 64


def test_words_keep_their_order() -> None:
    assert words("Zum Café 東京 a_b") == ["zum", "cafe", "東", "京", "a_b"]

"""The normalised form of questions: what it equates, and all that it keeps apart."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.text.normalised import normalised

QUESTIONS = (
    "What is the capital of France?",
    "How do I reset my router",
    "Can you explain how vaccines work?",
    "Is it safe to eat raw eggs?",
    "Explain the water cycle.",
    "why does my café lose money in winter?",
)
BEFORE = ("Hi team, ", "hey everyone ", "Please ", "Good morning team: ")
SAID = ("Um, ", "um ", "Ok, well, um, ", "Hello, ", "hey ", "Just wondering, ", "quick question: ", "hey there - ")
ORDER = "cancel my order before it ships"
KEPT = (
    ("How much is 5 MW?", "How much is 5 mW?"),
    ("What do US voters want?", "What do us voters want?"),
    ("What does IT cost?", "What does it cost?"),
    ("How do I clean Polish shoes?", "How do I clean polish shoes?"),
    ("What is March?", "What is march?"),
    ("What is 2*(4+8)?", "What is 2*4+8?"),
    ("What is x² in words?", "What is x2 in words?"),
    ("What is ½ in decimals?", "What is 1⁄2 in decimals?"),
    ("What is H₂O?", "What is H2O?"),
    ("What is 5!", "What is 5"),
    ("What is n!", "What is n"),
    ("It is safe to mix them?", "It is safe to mix them"),
    ("What does `Ls` do?", "What does `ls` do?"),
    ("How do I say “Please” in Greek?", "How do I say “please” in Greek?"),
    ('What does "Hi  team" mean?', 'What does "Hi team" mean?'),
    ("What does tar -C do?", "What does tar -c do?"),
    ("What does tar --Force do?", "What does tar --force do?"),
    ("Sort these:\na\nb", "Sort these: a b"),
    ("def f():\n    return 1", "def f():\nreturn 1"),
    ("  x = 1\ny = 2", "x = 1\ny = 2"),
    ("How do I spell please", "How do I spell"),
    ("Hello world in Haskell", "world in Haskell"),
    ("Hello, Dolly was written by whom?", "Dolly was written by whom?"),
    ("Please Please Me is by whom?", "Please Me is by whom?"),
    ("What is the meaning of !", "What is the meaning of ?"),
    ("What does ?? mean ??", "What does ?? mean ?"),
    ("Let us eat, grandma", "Let us eat grandma"),
    ("Can I eat, um, mm and cm", "Can I eat mm and cm"),
    ("What is GetUser?", "What is getuser?"),
    ("What is /Etc/hosts?", "What is /etc/hosts?"),
    ("Go on...", "Go on"),
    ("Hi", ""),
    ("Please", ""),
    ("What is A?", "What is a?"),
    ("What is the ER diagram?", "What is the er diagram?"),
    ("What is World War I?", "What is World War i?"),
    ("How do I end my contract?", "How do I end my contact?"),
    ("What is Jonson known for?", "What is Johnson known for?"),
)


@given(
    st.sampled_from(QUESTIONS),
    st.lists(st.sampled_from((*BEFORE, *SAID)), max_size=3),
    st.integers(1, 4),
    st.booleans(),
)
def test_forms_that_ask_for_the_same_share_a_form(question, before, spaces, decomposed):
    said = "".join(before) + question
    said = said.replace(" ", " " * spaces)
    said = unicodedata.normalize("NFD", said) if decomposed else said.replace(" ", "\u00a0")
    assert normalised(said) == normalised(question)


@pytest.mark.parametrize("before", BEFORE)
def test_an_order_behind_a_greeting_shares_a_form(before):
    assert normalised(before + ORDER) == normalised(ORDER)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what is the capital of france"),
        ("How do I reset my router?", "How do I reset my router? Thanks in advance!"),
        ("How do I reset my router?", "how do I reset my router, please?"),
        ("How do I reset my router?", "How do I, uhm, reset my router?"),
        ("Can you please explain vaccines?", "can you explain vaccines"),
        ("Explain the water cycle.", "Explain the water cycle!!"),
        ("What’s the weather like?", "What's the weather like ?".replace(" ?", "?")),
        ("Ｗhat is the ﬁne?", "What is the fine?"),
        ("Why is it\u200b cold?", "Why is it cold?"),
        ("Why can't I log in? I'm new.", "why can not i log in? I am new"),
        ("How do I reset my pasword?", "how do i reset my password"),
        ("HOW DO I RESET MY ROUTER?", "How do I reset my router?"),
        ("How do I reset my router? Kind regards, Anna", "Excuse me, how do I reset my router? :)"),
    ],
)
def test_small_changes_of_form_count_for_nothing(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(("one", "other"), KEPT)
def test_a_difference_of_meaning_is_kept(one, other):
    assert normalised(one) != normalised(other)


SIGNS = '`"“”()[]{}<>=*+|\\^~;\n'


@given(
    st.text(st.characters(codec="utf-8"), max_size=30), st.sampled_from(SIGNS), st.text(st.characters(codec="utf-8"))
)
def test_a_text_with_code_brackets_quotations_or_lines_counts_letter_by_letter(before, sign, after):
    text = f"a{before}{sign}{after}b"
    assert normalised(text) == unicodedata.normalize("NFC", text)


WORDS = st.sampled_from(
    [
        "What",
        "MW",
        "mW",
        "US",
        "us",
        "it",
        "IT",
        "5",
        "5.0",
        "-x",
        "--Force",
        "3%",
        "not",
        "Anna",
        "anna",
        "Polish",
        "um",
    ]
)


@given(st.lists(WORDS, min_size=1, max_size=8), st.lists(WORDS, min_size=1, max_size=8))
def test_two_lists_of_words_share_a_form_only_word_by_word(one, other):
    if normalised(" ".join(["list", *one])) == normalised(" ".join(["list", *other])):
        assert [fold(word) for word in one] == [fold(word) for word in other]


def fold(word):
    """The words that may differ in case here."""
    return {"What": "what", "Anna": "anna"}.get(word, word)


@given(st.text(max_size=200))
def test_a_form_is_its_own_form(text):
    once = normalised(text)
    assert normalised(once) == once

from headrace_workers.features.moderation.personal_words import QuickPattern


def test_text_that_is_no_unicode_is_searched() -> None:
    """A failure would hold the text."""
    assert QuickPattern("mill").search("\ud800 mill") is not None
    assert QuickPattern("mill").search("\ud800 wheel") is None

"""Harmless texts of our own, by which moderation is measured."""

import pytest
from bench.moderation_texts import BENIGN, BORDERLINE


@pytest.mark.parametrize("templates", [BENIGN, BORDERLINE], ids=["benign", "borderline"])
def test_there_are_enough_and_each_is_another(templates) -> None:
    """300 at least, of many templates: one is left out at a time."""
    texts = [text for template in templates for text in template.texts]
    assert len(texts) >= 300
    assert len(set(texts)) == len(texts)
    assert len(templates) >= 20
    assert all(len(set(template.fills)) == len(template.fills) == 16 for template in templates)
    assert not any(text.count("  ") or "{" in text for text in texts)

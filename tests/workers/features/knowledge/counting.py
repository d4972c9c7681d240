"""A token counter for tests: words and punctuation marks, one each."""

import re


def count_tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))

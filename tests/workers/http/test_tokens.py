import hashlib

import pytest

from headrace_workers.features.access.store.keys import new_token, read_token


def test_a_key_is_read_as_it_was_made():
    token = new_token()
    assert read_token(token.text) == token
    assert token.digest == hashlib.sha256(token.text.encode()).hexdigest()
    assert token.text not in repr(token)
    assert new_token() != token


@pytest.mark.parametrize("spoil", [lambda t: t[:-1], lambda t: t + "0", lambda t: t.upper(), lambda t: f" {t}",
                                   lambda t: t.replace("hr_", "sk-"), lambda t: f"{t}\n", lambda _: ""])  # fmt: skip
def test_what_is_no_key_is_seen_at_once(spoil):
    assert read_token(spoil(new_token().text)) is None


def test_a_slip_of_the_pen_is_seen_at_once():
    text = new_token().text
    for place in range(3, len(text)):
        if text[place] != "_":
            slipped = f"{text[:place]}{'1' if text[place] == '0' else '0'}{text[place + 1 :]}"
            assert slipped == text or read_token(slipped) is None

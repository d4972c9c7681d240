import pytest

from headrace_workers.core.json_lines import NoJSON, parsed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', "'b' is named twice"),
        (b'{"a": NaN}', "NaN is no number to JSON"),
        (b'{"a": -1e999}', "-1e999 is larger than any number can be here"),
        (b'{"a": [-Infinity]}', "-Infinity is no number to JSON"),
        ('{"a": 1}'.encode("utf-16"), r"no UTF-8 \(byte 1\), but looks like UTF-16"),
        ('{"a": 1}'.encode("utf-16-le"), "no JSON.*, but looks like UTF-16"),
        (b'{"a": "\xff"}', r"no UTF-8 \(byte 8\)$"),
    ],
)
def test_what_others_may_read_otherwise_is_refused(text: bytes, words: str):
    with pytest.raises(NoJSON, match=words):
        parsed(text)

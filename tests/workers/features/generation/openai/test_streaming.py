import pytest

from headrace_workers.features.generation.openai.request import wants_stream
from headrace_workers.http.openai_errors import Refused


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, (False, False)),
        ({"stream": False}, (False, False)),
        ({"stream_options": {}}, (False, False)),
        ({"stream": False, "stream_options": {"include_usage": False}}, (False, False)),
        ({"stream": True}, (True, False)),
        ({"stream": True, "stream_options": {"include_usage": True}}, (True, True)),
        ({"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}}, (True, False)),
    ],
)
def test_what_is_wanted(asked, wanted):
    """Whether to stream, and whether to tell the usage."""
    assert wants_stream(asked) == wanted


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, param):
    """By name."""
    with pytest.raises(Refused) as caught:
        wants_stream(asked)
    assert caught.value.param == param

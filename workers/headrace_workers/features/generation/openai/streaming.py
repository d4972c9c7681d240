"""Answers in chunks, for clients that stream.

They are cut from a finished, moderated answer: nothing is sent before.
"""

from typing import Final

from headrace_workers.features.generation.openai.flags import flag
from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import unsupported
from headrace_workers.http.openai_parameters import Parameters

_OPTIONS: Final = Parameters(frozenset({"include_usage"}), unmeant={"include_obfuscation": (False,)})


def wants_stream(asked: Body) -> tuple[bool, bool]:
    """Return whether to stream, and whether to report usage at the stream's end. Raise Refused for a contradiction."""
    stream = flag(asked, "stream")
    options = _OPTIONS.given(asked.get("stream_options", {}), "stream_options")
    with_usage = flag(options, "include_usage", within="stream_options.")
    if with_usage and not stream:
        raise unsupported("stream_options", "is only for stream=true: leave it out")
    return stream, with_usage

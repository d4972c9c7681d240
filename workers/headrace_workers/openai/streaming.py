"""Whether an answer is wanted in chunks. They are those of a finished, moderated answer: nothing is told before."""

from typing import Final

from headrace_workers.openai.errors import unsupported
from headrace_workers.openai.flags import flag
from headrace_workers.openai.parameters import Parameters
from headrace_workers.openai.request import Body

_OPTIONS: Final = Parameters(frozenset({"include_usage"}), unmeant={"include_obfuscation": (False,)})


def wants_stream(asked: Body) -> tuple[bool, bool]:
    """Whether to stream, and whether to tell the usage at the stream's end. Refused where that makes no sense."""
    stream = flag(asked, "stream")
    options = _OPTIONS.given(asked.get("stream_options", {}), "stream_options")
    with_usage = flag(options, "include_usage", within="stream_options.")
    if with_usage and not stream:
        raise unsupported("stream_options", "is only for stream=true: leave it out")
    return stream, with_usage

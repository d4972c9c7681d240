"""Likeness of an output and a reference, by the vectors of an embedder."""

from headrace_workers.core.ports import CountingEmbedder
from headrace_workers.features.judging.unjudged import TooLongToEmbed


def cosine(output: str, reference: str, embedder: CountingEmbedder) -> float:
    """Return the cosine of both vectors, 0 at least. Raise TooLongToEmbed where a text is not read whole."""
    room = embedder.max_tokens - embedder.added_tokens
    for what, text in (("output", output), ("reference", reference)):
        if (tokens := embedder.count_tokens(text)) > room:
            raise TooLongToEmbed(f"the {what} has {tokens:,} tokens, and the embedder reads {room:,}")
    ours, theirs = embedder.embed([output, reference])
    return min(1.0, max(0.0, float(ours @ theirs)))

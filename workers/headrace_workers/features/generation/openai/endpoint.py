"""OpenAI's URLs: each reads a body into jobs, and says how their ends become its answer."""

from collections.abc import Callable, Mapping
from typing import Final

from headrace_workers.features.generation.openai import chat, completions, decisions, embeddings, moderations, responses
from headrace_workers.features.generation.openai.request import Body, OpenAIRequest, RequestContext

# The same body and asker give the same jobs, so that what was asked can be read again when it is answered.
# Each raises Refused for what cannot be had.
ENDPOINTS: Final[Mapping[str, Callable[[Body, RequestContext], OpenAIRequest]]] = {
    "/v1/chat/completions": chat.read,
    "/v1/completions": completions.read,
    "/v1/responses": responses.read,
    "/v1/embeddings": embeddings.read,
    "/v1/moderations": moderations.read,
    "/v1/decisions": decisions.read,
}

"""Doubles that ship with the product: use them in your own tests. Nothing here is needed in production."""

from headrace_workers.models.embedders.hashed import HashEmbedder, make_hash_embedder
from headrace_workers.models.engines.echo import EchoGenerator, make_echo_model
from headrace_workers.testing.tiny import make_tiny_model

__all__ = ["EchoGenerator", "HashEmbedder", "make_echo_model", "make_hash_embedder", "make_tiny_model"]

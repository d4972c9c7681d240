"""Doubles that ship with the product: use them in your own tests. Nothing here is needed in production."""

from headrace_workers.engines.echo import EchoGenerator, make_echo_model
from headrace_workers.testing.tiny import make_tiny_model

__all__ = ["EchoGenerator", "make_echo_model", "make_tiny_model"]

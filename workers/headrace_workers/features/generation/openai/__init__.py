"""OpenAI's requests as jobs, their ends as OpenAI's responses, and errors in OpenAI's shape. Pure: no I/O, no clock.

The gateway and batches speak to OpenAI's clients by this room and nothing else. docs/reference/openai.md is its table.
"""

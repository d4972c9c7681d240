"""Answers from models: engines, the registry of models, and the OpenAI routes that ask for an answer."""

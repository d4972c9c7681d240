"""Classifiers: heads on the embedder's vectors that answer decisions in place of a language model."""

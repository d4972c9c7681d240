"""Vectors of texts: one library an adapter."""

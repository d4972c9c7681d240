"""Nearest vectors in memory: FAISS, and nothing else of it elsewhere."""

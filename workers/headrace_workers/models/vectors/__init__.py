"""Nearest vectors in memory: FAISS, and nothing else of it elsewhere.

`vector_index.VectorIndex` is the public face, and `snapshot` keeps one on disk.
"""

"""Benches of headrace: `python -m bench [NAME]`. Every target is a ratio or a time within one run."""

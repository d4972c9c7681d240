"""Training data: what of it is fit to learn from, and why the rest is not."""

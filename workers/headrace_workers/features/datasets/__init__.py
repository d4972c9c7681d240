"""Training data: which items are fit for training, and why the rest is not."""

"""Documents to passages, and passages to a prompt: pure, but for reading files."""

"""Fine-tuning: a model of the catalogue learns from examples, and what was trained is what is served."""

"""Moderation of prompts, answers and texts: detectors, policies, and what people decide about held outputs."""

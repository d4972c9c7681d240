"""Judging of answers: each criterion gives one score, or says why there is none."""

"""The room where answers are judged: each criterion yields one score, or says why there is none."""

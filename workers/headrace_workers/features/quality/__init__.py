"""How far verdicts can be trusted: labels of people, statistics, pass rates."""

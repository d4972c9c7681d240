"""Trust in verdicts: labels of people, statistics, pass rates."""

"""How far verdicts may be trusted: agreement with people, rates, corrected means, comparisons. Pure, over arrays."""

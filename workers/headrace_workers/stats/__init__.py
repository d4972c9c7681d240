"""Statistics: intervals, comparisons, agreement, and bounds that hold however often one looks. Pure."""

"""Variants of a prompt or model over the same items: from a run file to jobs, and from receipts to a report."""

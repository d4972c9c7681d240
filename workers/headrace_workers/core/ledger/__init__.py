"""The ledger: every accepted job, its steps, claims and the outbox."""

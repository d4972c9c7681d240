"""The core: jobs, claims, the outbox, the pipeline and transactions. It knows no feature."""

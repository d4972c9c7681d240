"""The processes: bridge, worker, Celery and Redis, health, the embedded stack."""

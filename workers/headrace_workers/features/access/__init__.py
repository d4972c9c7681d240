"""API keys, quotas and usage of tenants."""

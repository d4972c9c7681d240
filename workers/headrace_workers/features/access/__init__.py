"""API keys and quotas of tenants."""

"""Who may ask, and how much: API keys, quotas and usage."""

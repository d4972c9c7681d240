"""The data boundary: the providers that may see a tenant's texts."""

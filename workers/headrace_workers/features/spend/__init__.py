"""Costs of models: prices, spending and budgets."""

"""What models cost: prices, spending and budgets."""

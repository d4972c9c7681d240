"""How sure a threshold is: the bound on wrong answers among those that are served."""

"""The training loop, and what it is given: an objective, an optimizer, a rule for keep fractions, several processes."""

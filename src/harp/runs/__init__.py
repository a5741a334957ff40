"""Run directories: what is in one, whose it is, what it was made from, and what its card says."""

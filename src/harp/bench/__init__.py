"""Exported networks against the dense engines of others: in one process, in turns, on the same weights."""

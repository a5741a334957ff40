"""Coupled channels: not built yet. Its granularity is the shape of the scores, so nothing else waits for it."""

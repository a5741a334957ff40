"""Runs an exported network on a CPU, and needs numpy for it and no torch."""

"""Estimate how long a stage, an evaluation, a comparison or the whole job takes here, from a few timed passes."""

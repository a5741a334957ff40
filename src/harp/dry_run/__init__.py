"""How long a stage, an evaluation, a comparison or the whole job will take here, from a few timed passes."""

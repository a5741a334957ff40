"""Follow channels through one forward pass, operation by operation. The README beside says how to read this folder."""

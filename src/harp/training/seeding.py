"""Seeds of what is drawn at random, from what it is drawn for."""

import hashlib


def seed_of(*parts: int | str) -> int:
    """A seed below 2⁶³ that depends on all parts and is the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

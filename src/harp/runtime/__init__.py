"""Runs exported networks on a CPU. Needs numpy and a compiled engine, and never torch.

>>> session = harp.runtime.load("net.harp")
>>> logits = session(images)
"""

from harp.runtime.session import LayerChoice, Session, isa, load, peak_gflops

__all__ = ["LayerChoice", "Session", "isa", "load", "peak_gflops"]

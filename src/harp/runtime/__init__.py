"""Runs exported networks on a CPU. Needs numpy and a compiled engine, and never torch.

>>> session = harp.runtime.load("net.harp")
>>> logits = session(images)
>>> session.classify(["photo.jpg"])[0].name
"""

from harp.runtime.classifying import Prediction
from harp.runtime.preprocessing import Preprocessing
from harp.runtime.session import LayerChoice, Session, isa, load, peak_gflops

__all__ = ["LayerChoice", "Prediction", "Preprocessing", "Session", "isa", "load", "peak_gflops"]

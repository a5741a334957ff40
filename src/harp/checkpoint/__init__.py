"""Tensors in files: harp's own, as safetensors, and checkpoints made anywhere. Nothing is ever unpickled."""

from harp.checkpoint.tensors import load_state, load_tensors, save_state, save_tensors
from harp.checkpoint.weights import load_weights

__all__ = ["load_state", "load_tensors", "load_weights", "save_state", "save_tensors"]

"""What a run directory holds and how it is read and written: safetensors and JSON. Nothing is ever unpickled."""

from harp.checkpoint.directory import RunDirectory
from harp.checkpoint.tensors import load_state, load_tensors, save_state, save_tensors
from harp.checkpoint.weights import load_weights

__all__ = ["RunDirectory", "load_state", "load_tensors", "load_weights", "save_state", "save_tensors"]

"""A trained network as a file: sparse for `harp.runtime`, ONNX for everyone else."""

from .rebuilding import rebuild
from .tracing import trace

__all__ = ["rebuild", "trace"]
